"""One coverage report of the compiled code, measured by gcov, and of the Python code.

    python tests/compiled_lines.py TREE...

Each TREE is a source tree in which the extensions were built with gcc's --coverage, and then run.
Cython writes comments into its C code that name the Cython line. A line counts as reached if the
first statement after one of its comments was: later ones may belong to the end of the function,
which always runs. gcov measures the headers directly. For a macro, the line that uses it counts.
"""

import collections
import json
import re
import subprocess
import sys
from pathlib import Path

import coverage
from coverage.plugin import CoveragePlugin, FileReporter

SOURCE = Path(__file__).resolve().parent.parent / "src" / "aiofastlock"
COMPILED = SOURCE / "_compiled"
MADE_OF = re.compile(r'\s*/\* "(?:src/)?aiofastlock/_compiled/(\w+\.p(?:yx|xd))":(\d+)$')
NO_LONGER = re.compile(r"\s*/\* function exit code \*/$|}$")
# gcov does not count labels reliably, and some builds inline Py_DECREF() while others do not.
NOT_COUNTED = re.compile(r"\w+:$|\s*Py_DECREF\(\w+\);$")


def counts_of(tree):
    """Yield each C file of a build, and how often gcov saw each of its lines run."""
    for notes in sorted(tree.glob("build/temp.*/**/*.gcno")):
        gcov = ["gcov", "--json-format", "--stdout", notes.name]
        done = subprocess.run(gcov, cwd=notes.parent, capture_output=True, text=True, check=True)
        for file in json.loads(done.stdout)["files"]:
            counts = collections.Counter()
            for line in file["lines"]:  # a line occurs once for each function that contains it
                counts[line["line_number"]] += line["count"]
            yield tree / file["file"], counts


def lines_of_header(text, counts):
    for number, count in counts.items():
        if not NOT_COUNTED.match(text[number - 1]):
            yield number, count


def lines_of_cython(text, counts):
    """Yield the file and number of each Cython line in C code, and how often it was reached."""
    made_of = None
    for number, line in enumerate(text, 1):
        if found := MADE_OF.match(line):
            made_of = found[1], int(found[2])
        elif NO_LONGER.match(line):
            made_of = None
        elif made_of and number in counts and not NOT_COUNTED.match(line):
            yield *made_of, counts[number]
            made_of = None


def excused_lines(text, excuses):
    """Yield the lines with an excuse, and the blocks that they begin, as coverage.py does."""
    inside_of = None
    for number, line in enumerate(text, 1):
        indent = len(line) - len(line.lstrip())
        if inside_of is not None and line.strip() and indent <= inside_of:
            inside_of = None
        if re.search(excuses, line):
            inside_of = indent
        if inside_of is not None:
            yield number


class Lines(FileReporter):
    """The lines of one file of the compiled code, for coverage.py."""

    def __init__(self, filename, known, excuses):
        super().__init__(filename)
        self.known = known
        self.excused = set(excused_lines(self.source().splitlines(), excuses))

    def relative_filename(self):
        return str(Path(self.filename).relative_to(Path.cwd()))

    def lines(self):
        return self.known - self.excused

    def excluded_lines(self):
        return self.known & self.excused


class Plugin(CoveragePlugin):
    def __init__(self, known):
        self.known = known

    def file_reporter(self, filename):
        return Lines(filename, self.known[filename], self.excuses)


def main(trees):
    known, reached = collections.defaultdict(set), collections.defaultdict(set)

    def add(name, number, count):
        path = str(COMPILED / name)
        known[path].add(number)
        if count:
            reached[path].add(number)

    for tree in map(Path, trees):
        for path, counts in counts_of(tree):
            text = path.read_text().splitlines()
            if path.suffix == ".c":
                for name, number, count in lines_of_cython(text, counts):
                    add(name, number, count)
            elif (COMPILED / path.name).exists():  # otherwise it is a header of Python
                for number, count in lines_of_header(text, counts):
                    add(path.name, number, count)

    plugin = Plugin(known)
    report = coverage.Coverage(plugins=[lambda plugins: plugins.add_file_tracer(plugin)])
    plugin.excuses = "|".join(report.get_exclude_list())
    report.load()
    data = report.get_data()
    data.add_lines(reached)
    data.add_file_tracers(dict.fromkeys(reached, plugin._coverage_plugin_name))
    percentage = report.report()
    for path in sorted(SOURCE.rglob("*")):
        if path.suffix in (".py", ".pyx", ".pxd", ".h"):
            for number, line in enumerate(path.read_text().splitlines(), 1):
                if "pragma: no cover" in line:
                    print(f"{path.relative_to(SOURCE)}:{number}: {line.strip()}")
    return percentage


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]) < 100)

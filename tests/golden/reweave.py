"""`python -m tests.golden.reweave`: rewrite the woven files of the skeleton from the templates and the canonical document.

Run it after a change of a template, of `lower.py` or of the document, look at the diff, run the skeleton's own tests.
"""

import sys

from tests.golden.weaving import CANONICAL, MANIFEST, SKELETON, compiled, skeleton


def main() -> int:
    """Write what differs, remove what is woven no more; print both."""
    compilation = compiled(CANONICAL.read_bytes())
    before = skeleton()
    changed = {path: file for path, file in compilation.files.items() if before.get(path) != file}
    for path in before.keys() - {MANIFEST} - compilation.files.keys():
        (SKELETON / path).unlink()
        sys.stdout.write(f"- {path}\n")
    for path, file in changed.items():
        (SKELETON / path).parent.mkdir(parents=True, exist_ok=True)
        (SKELETON / path).write_bytes(file.content)
        sys.stdout.write(f"+ {path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

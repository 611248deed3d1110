"""Makes the data of the examples.

Each example's `generate.py` has one function `generate(folder)`, which draws from a fixed seed with Python's own
`random`, so that every machine gets the same rows. Data that is there already, made by the same generator, is kept:
the file `.key` holds the digest of what made it.
"""

import hashlib
import importlib.util
import shutil
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent


def key_of(generator: Path) -> str:
    """Digest over everything that the data depends on."""
    return hashlib.sha256(Path(__file__).read_bytes() + generator.read_bytes()).hexdigest()


def make(example: Path) -> bool:
    """Makes `example/data` where it is missing or was made by another generator. Tells whether it did."""
    generator, data = example / "generate.py", example / "data"
    key = key_of(generator)
    if (data / ".key").is_file() and (data / ".key").read_text() == key:
        return False
    spec = importlib.util.spec_from_file_location(f"generate_{example.name}", generator)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # Made aside and put in place whole, so that an interrupted run leaves no half of the data behind.
    unfinished = example / "data.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    module.generate(unfinished)
    (unfinished / ".key").write_text(key)
    shutil.rmtree(data, ignore_errors=True)
    unfinished.rename(data)
    return True


def main() -> None:
    sys.dont_write_bytecode = True
    names = sys.argv[1:] or sorted(path.parent.name for path in EXAMPLES.glob("*/generate.py"))
    for name in names:
        if not (EXAMPLES / name / "generate.py").is_file():
            sys.exit(f"there is no example {name!r} in {EXAMPLES}")
        if make(EXAMPLES / name):
            print(f"made the data of examples/{name}", file=sys.stderr)


if __name__ == "__main__":
    main()

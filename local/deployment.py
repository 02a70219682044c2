"""`sam build` and `sam deploy` of the real template, onto the emulator."""

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from local.emulator import Emulator, credentials
from local.errors import with_log
from local.places import BUILDS, HOME, ROOT, TOOLS, tool

STACK = "manifold"
_ARTIFACTS = "artifacts"
_KEPT_BUILDS = 3


def build(log: Path) -> Path:
    """Build the template and return its path. An earlier build of the same sources is used again."""
    built = BUILDS / _fingerprint()
    if not built.exists():
        _build(built, log)
    os.utime(built)
    _prune()
    return built / "template.yaml"


def deploy(template: Path, emulator: Emulator, parameters: Mapping[str, str], log: Path) -> dict[str, str]:
    """Deploy, and return the stack's outputs. Raises a `StackError` with the log if it fails."""
    emulator.client("s3").create_bucket(Bucket=_ARTIFACTS)
    overrides = [f"{name}={value}" for name, value in parameters.items()]
    options = [
        "--stack-name",
        STACK,
        "--s3-bucket",
        _ARTIFACTS,
        "--capabilities",
        "CAPABILITY_IAM",
        "--disable-rollback",
    ]
    arguments = ["deploy", "--template-file", str(template), *options, "--no-progressbar"]
    _sam([*arguments, "--parameter-overrides", *overrides], {"AWS_ENDPOINT_URL": emulator.url}, log)
    return emulator.outputs(STACK)


def architecture() -> str:
    """The architecture of this machine, in the words of the template's parameter."""
    return "arm64" if platform.machine() in {"arm64", "aarch64"} else "x86_64"


def _build(built: Path, log: Path) -> None:
    """Build in a temporary directory, then rename it: builds at the same time do not mix, and none is incomplete."""
    BUILDS.mkdir(parents=True, exist_ok=True)
    interpreter = tool("ministack", "python")  # it runs the functions
    with tempfile.TemporaryDirectory(dir=BUILDS, prefix="new-", ignore_cleanup_errors=True) as new:
        overrides = f"Architecture={architecture()}"
        _sam(
            ["build", "--build-dir", new, "--parameter-overrides", overrides],
            {"UV": str(tool("uv", "uv")), "LAYER_INTERPRETER": str(interpreter)},
            log,
        )
        if not built.exists():
            Path(new).rename(built)


def _sam(arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    own = {
        "SAM_CLI_TELEMETRY": "0",
        "SAM_CLI_POLL_DELAY": "0.2",  # seconds; AWS itself is asked every 5
        "__SAM_CLI_APP_DIR": str(TOOLS / "sam" / "state"),
    }
    installing = {name: value for name, value in os.environ.items() if name.startswith(("UV_", "PIP_", "SSL_"))}
    with log.open("ab") as output, tempfile.TemporaryDirectory(dir=HOME, prefix="sam-") as scratch:
        done = subprocess.run(
            [tool("sam", "sam"), *arguments],
            env={**inherited, **installing, **credentials(), **own, **environment, "TMPDIR": scratch},
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            check=False,
        )
    if done.returncode:
        raise with_log(f"sam {arguments[0]} failed.", log)


def _fingerprint() -> str:
    """A hash of the sources of a build. The functions' code is none of them: `sam deploy` packages it directly."""
    digest = hashlib.sha256()
    for file in _sources():
        digest.update(f"{file.relative_to(ROOT)}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _sources() -> Iterable[Path]:
    layer = (file for file in (ROOT / "layers").rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    locks = (ROOT / "requirements" / f"{name}.txt" for name in ("ministack", "sam", "uv"))
    return [ROOT / "template.yaml", *sorted(layer), *locks]


def _prune() -> None:
    for old in sorted(BUILDS.iterdir(), key=lambda built: built.stat().st_mtime, reverse=True)[_KEPT_BUILDS:]:
        shutil.rmtree(old, ignore_errors=True)

"""`honeyhive-instrument [options] COMMAND ...`: set the environment, then become the command (exec).

Standard library only. The process id, signals, exit status and stdin are the command's, because the launcher is gone by
the time it runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from honeyhive_autoinstrument._version import __version__
from honeyhive_autoinstrument.activation.bootstrap import SHIM

PROGRAM = "honeyhive-instrument"

HELP = f"""\
usage: {PROGRAM} [options] COMMAND [ARGUMENTS ...]

Runs COMMAND as it is, and records every LiteLLM call that it (or a process it starts) makes as HoneyHive events.

  {PROGRAM} python app.py            any command
  {PROGRAM} app.py                   a script, with this Python
  {PROGRAM} -m package               a module, with this Python; -c CODE as well
  {PROGRAM} gunicorn app:server      servers, workers and reloads included
  {PROGRAM} litellm --config c.yaml  LiteLLM's own proxy
  {PROGRAM} --check                  what would happen, and whether the key works

Without a key everything is recorded into a local store: look at it with `honeyhive-events show`,
send it later with `honeyhive-events send`.

options (each is also a variable, HONEYHIVE_<NAME>; a variable already set is overridden):
  --api-key KEY          key of the HoneyHive project (HONEYHIVE_API_KEY; the variable is safer: others on this
                         machine can see command lines)
  --api-url URL          base URL of the HoneyHive server
  --project NAME         project name, for old servers only
  --source LABEL         environment label shown with every event (default production)
  --session-id ID        put everything into this session
  --session-name NAME    name of the session (default: the program's name)
  --exporters LIST       honeyhive, local, console; comma separated
  --attributes K=V,...   added to the metadata of every event
  --no-content           record no prompts and answers: only ids, roles, sizes, tokens, times
  --home FOLDER          folder of the local store
  --debug                log what the recording does, on stderr
  --check                print settings, versions, what would be wrapped, whether server and key answer; then exit
  --help, --version

exit status: that of COMMAND; 126 if it cannot be executed, 127 if there is none of that name, 2 for wrong usage.
--check: 0 if everything is in order, 1 if something is not. Options end at COMMAND, or at `--`.
"""

OPTIONS = {
    "--api-key": "HONEYHIVE_API_KEY",
    "--api-url": "HONEYHIVE_API_URL",
    "--project": "HONEYHIVE_PROJECT",
    "--source": "HONEYHIVE_SOURCE",
    "--session-id": "HONEYHIVE_SESSION_ID",
    "--session-name": "HONEYHIVE_SESSION_NAME",
    "--exporters": "HONEYHIVE_EXPORTERS",
    "--attributes": "HONEYHIVE_ATTRIBUTES",
    "--home": "HONEYHIVE_HOME",
}
FLAGS = {"--no-content": ("HONEYHIVE_CAPTURE_CONTENT", "false"), "--debug": ("HONEYHIVE_DEBUG", "true")}

NOT_FOUND = 127
NOT_EXECUTABLE = 126
USAGE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the console script. Returns only when there is no command to become."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    settings: dict[str, str] = {}
    is_check = False
    while words:
        word = words[0]
        name, equals, value = word.partition("=")
        if word == "--help" or word == "-h":
            print(HELP, end="")
            return 0
        if word == "--version":
            print(f"{PROGRAM} {__version__}")
            return 0
        if word == "--check":
            is_check = True
        elif word in FLAGS:
            variable, setting = FLAGS[word]
            settings[variable] = setting
        elif name in OPTIONS:
            if not equals:
                if len(words) < 2:
                    return _complain(f"option {name} needs a value", USAGE)
                value = words.pop(1)
            settings[OPTIONS[name]] = value
        elif word == "--":
            words.pop(0)
            break
        elif word.startswith("-") and word not in ("-m", "-c"):
            return _complain(f"unknown option {word}; `{PROGRAM} --help` lists them", USAGE)
        else:
            break
        words.pop(0)
    os.environ.update(settings)
    if is_check:
        if words:
            return _complain(f"--check takes no command, and {words[0]} was given", USAGE)
        from honeyhive_autoinstrument.activation.check import check

        return check()
    if not words or not words[0]:
        return _complain(f"no command given; for example `{PROGRAM} python app.py` (`--help` tells more)", USAGE)
    return _become(words)


def _become(words: list[str]) -> int:
    command = words[0]
    if command in ("-m", "-c"):
        if len(words) < 2:
            return _complain(f"{command} needs a {'module' if command == '-m' else 'program'} after it", USAGE)
        words = [sys.executable, *words]
    elif command.endswith(".py") and not _is_executable_on_path(command):
        if not os.path.exists(command):
            return _complain(f"{command}: no such file", NOT_FOUND)
        words = [sys.executable, *words]
    path = _resolve(words[0])
    if isinstance(path, int):
        return path
    _set_environment()
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execv(path, words)
    except OSError as error:
        return _complain(f"{words[0]}: cannot be executed ({error.strerror})", NOT_EXECUTABLE)


def _is_executable_on_path(command: str) -> bool:
    # `tool.py` installed on PATH is a command; a script in a folder is run with this Python.
    return os.sep not in command and not os.path.exists(command) and _find(command, os.X_OK) is not None


def _resolve(command: str) -> str | int:
    """The path of a command as a shell would find it, or the exit status when it would not."""
    if os.sep in command:
        if not os.path.exists(command):
            return _complain(f"{command}: no such file", NOT_FOUND)
        if os.path.isdir(command) or not os.access(command, os.X_OK):
            return _complain(f"{command}: not executable", NOT_EXECUTABLE)
        return command
    found = _find(command, os.X_OK)
    if found is not None:
        return found
    blocked = _find(command, os.F_OK)
    if blocked is not None:
        return _complain(f"{command}: found at {blocked}, but not executable", NOT_EXECUTABLE)
    return _complain(f"{command}: command not found", NOT_FOUND)


def _find(command: str, mode: int) -> str | None:
    # As shutil.which does it on POSIX; importing shutil takes 6 ms, half of what the launcher adds.
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(folder, command)
        if os.path.isfile(path) and os.access(path, mode):
            return path
    return None


def _set_environment() -> None:
    given = os.environ.get("PYTHONPATH")
    # An empty entry stays: it means the current folder.
    others = [entry for entry in given.split(os.pathsep) if entry != SHIM] if given else []
    os.environ["PYTHONPATH"] = os.pathsep.join([SHIM, *others])
    # For Pythons that do not look at PYTHONPATH (-I, -E): the `.pth` beside the installed package does. An off stays off.
    if not os.environ.get("HONEYHIVE_AUTO"):
        os.environ["HONEYHIVE_AUTO"] = "1"


def _complain(message: str, status: int, write: Callable[[str], object] = sys.stderr.write) -> int:
    write(f"{PROGRAM}: {message}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())

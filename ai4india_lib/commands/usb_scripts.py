"""What `usb` writes beside the wheels: programs that install the course without a network, and a word on how."""

_UNIX = """#!/bin/sh
# Installs the course on this computer, without a network: sh install.sh [FOLDER]. Run it again if it broke off.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
target=${1:-$HOME/ai4india}
python=${PYTHON:-python3.xx}
command -v "$python" >/dev/null || python=python3
found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || found=none
if [ "$found" != 3.xx ]; then
    echo "These packages are for Python 3.xx, and this computer has: $found. Install Python 3.xx, or make another" >&2
    echo "folder on a computer with a network: python -m ai4india_lib usb FOLDER --python VERSION" >&2
    exit 1
fi
if [ -e "$target" ] && [ ! -d "$target/ai4india_lib" ]; then
    echo "There is $target, and it is not the course: name another folder, sh install.sh FOLDER" >&2
    exit 1
fi
if [ ! -e "$target" ]; then
    rm -rf "$target.part"
    cp -R "$here/ai4india" "$target.part"
    chmod -R u+w "$target.part"
    mv "$target.part" "$target"
fi
cd "$target"
"$python" -m venv .venv || {
    echo "Python lacks its part venv: on Debian and Ubuntu it is the package python3-venv" >&2
    exit 1
}
.venv/bin/python -m pip install --no-index --find-links "$here/wheels" -r requirements.txt
echo
echo "The course is installed. To begin:"
echo "  cd \\"$target\\""
echo "  . .venv/bin/activate"
echo "  jupyter lab --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb"
"""

WINDOWS_INSTALLER = """@echo off
rem Installs the course on this computer, without a network: install.bat [FOLDER]. Run it again if it broke off.
setlocal
set "here=%~dp0"
set "target=%~1"
if "%target%"=="" set "target=%USERPROFILE%\\ai4india"
py -3.xx -c "pass" 2>nul
if errorlevel 1 (
    echo These packages are for Python 3.xx of 64 bits, which this computer lacks. Install it, with its launcher "py".
    pause
    exit /b 1
)
if exist "%target%\\ai4india_lib\\" goto packages
if exist "%target%" (
    echo There is "%target%", and it is not the course: name another folder, install.bat FOLDER
    pause
    exit /b 1
)
if exist "%target%.part" rmdir /s /q "%target%.part"
xcopy "%here%ai4india" "%target%.part" /e /i /q /h /k
if errorlevel 1 goto failed
move "%target%.part" "%target%" >nul
if errorlevel 1 goto failed
:packages
cd /d "%target%"
if errorlevel 1 goto failed
py -3.xx -m venv .venv
if errorlevel 1 goto failed
.venv\\Scripts\\python -m pip install --no-index --find-links "%here%wheels" -r requirements.txt
if errorlevel 1 goto failed
echo.
echo The course is installed. To begin, in a Command Prompt:
echo   cd /d "%target%"
echo   .venv\\Scripts\\activate.bat
echo   jupyter lab --LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb
pause
exit /b 0
:failed
echo Something failed, as said above. Run install.bat again.
pause
exit /b 1
""".replace("\n", "\r\n")

_ABOUT = """The course ai4india, with all that it needs: no network is used.

It is for: {system}, Python {python}. Python itself is not here: put its installer into this folder too.
To install: {how}
The course goes to the folder ai4india in your home folder, or to the one that you name behind the command.
Run it again if it broke off; what you have written there is not touched.
"""


def unix_installer(python: str) -> str:
    """The script for Linux and macOS, for a Python such as "3.12"."""
    return _UNIX.replace("3.xx", python)


def about_the_folder(system: str, python: str) -> str:
    """What README.txt says."""
    how = "double-click install.bat" if system == "windows" else "in a terminal, in this folder: sh install.sh"
    return _ABOUT.format(system=system, python=python, how=how)

"""A JupyterLab of its own with one notebook, opened in Debian's chromium."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager, suppress

import nbformat

from medalign_lite.files import ROOT

BINARIES = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
MISSING = [name for name, path in BINARIES.items() if path is None]
NEWS = "@jupyterlab/apputils-extension/notification.jupyterlab-settings"


@contextmanager
def browser(width=1400, height=1200):
    """A chromium without a window."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = BINARIES["chromium"]
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", f"--window-size={width},{height}"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options, webdriver.ChromeService(BINARIES["chromedriver"]))
    try:
        driver.set_script_timeout(300)  # axe on a page of thousands of words of code
        yield driver
    finally:
        driver.quit()


def barriers(driver, inside):
    """Serious and critical ones, by axe, with the elements that have them."""
    from axe_core_python.selenium import Axe

    found = Axe().run(driver, context={"include": [[inside]]})["violations"]
    return [(v["id"], [node["html"][:120] for node in v["nodes"][:3]]) for v in found
            if v["impact"] in ("serious", "critical")]  # fmt: skip


def wait(until, what="the kernel", seconds=240):
    """Until it holds; raises AssertionError after `seconds`."""
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, f"{what} did not come"
        time.sleep(0.2)


def run_all(driver, url):
    """Open the notebook, and start all its cells once its kernel is there."""
    driver.get(url)
    kernel = "window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel"
    wait(lambda: driver.execute_script(f"return {kernel}?.status === 'idle'"))
    driver.execute_script("window.jupyterapp.commands.execute('notebook:run-all-cells')")


@contextmanager
def lab(folder, cells):
    """The address of a notebook of these code cells in a JupyterLab that keeps its settings in `folder`."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / "page.ipynb")
    settings = folder / "settings" / NEWS
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "PATH": f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
        "JUPYTER_CONFIG_DIR": str(folder / "config"), "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "IPYTHONDIR": str(folder / "ipython"),
    }  # fmt: skip
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", "--ip=127.0.0.1",
               "--IdentityProvider.token=", f"--ServerApp.root_dir={folder}", "--LabApp.expose_app_in_browser=True"]
    with (folder / "lab.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
        try:
            wait(lambda: answers(f"http://127.0.0.1:{port}/api/status", server, folder / "lab.log"), "JupyterLab")
            yield f"http://127.0.0.1:{port}/lab/tree/page.ipynb?reset"
        finally:
            server.terminate()
            server.wait(timeout=30)


def answers(url, server, log):
    """Whether the server answers; raises AssertionError where it has ended."""
    with suppress(OSError):  # of URLError too
        urllib.request.urlopen(url, timeout=5).close()
        return True
    assert server.poll() is None, f"JupyterLab did not start:\n{log.read_text()}"

"""Headless Chromium for pages that lie on the disk; tests are skipped where the machine has none."""

import base64
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

# Without a sandbox as root; nothing may be looked up in the network.
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
    "--host-resolver-rules=MAP * ~NOTFOUND",
)


@contextmanager
def chromium(profile: Path, width: int = 1360, height: int = 900) -> Iterator:
    """A driver of a new browser.

    Args:
        profile: new folder for what it keeps.
        width, height: of its window.
    """
    webdriver = pytest.importorskip("selenium.webdriver", reason="reports are clicked with selenium")
    from selenium.common.exceptions import WebDriverException

    program = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if not program or not driver:
        pytest.skip("Chromium and its driver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    os.environ["SE_OFFLINE"] = "true"
    try:
        browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    except WebDriverException as error:
        pytest.skip(f"Chromium does not start: {error.msg}")
    try:
        yield browser
    finally:
        browser.quit()


def printed(browser) -> bytes:
    """The page as a PDF on A4."""
    settings = {"preferCSSPageSize": True, "paperWidth": 8.27, "paperHeight": 11.69, "printBackground": True}
    return base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", settings)["data"])

"""The static site of the target catalogue: made of what is at hand, and read in a browser."""

from __future__ import annotations

import pytest
import yaml

from ..browser import browser
from .conftest import Folder
from .pallets import TinyPallet

EVIL = "<script>document.title='evil'</script>"


@pytest.mark.slow
def test_a_site_of_what_is_at_hand(
    finished: tuple[Folder, TinyPallet], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, tiny = finished
    absent = {**tiny.analysis, "title": EVIL, "pallet": {"url": "https://www.hepdata.net/a.tar.gz"}}
    (folder.path / "absent.yaml").write_text(yaml.safe_dump(absent))
    folder.config["analyses"] = [*folder.config["analyses"], str(folder.path / "absent.yaml")]
    folder.config["catalogue"] = {"address": "https://example.org/site"}
    run = folder.run("catalogue")
    assert run.fitted == []
    site = folder.path / "results/_catalogue"
    files = {path.relative_to(site).as_posix() for path in site.rglob("*") if path.is_file()}
    # The tiny analysis has no publication that HEPData could link.
    assert files - {".snakemake_timestamp"} == {"index.html", "tiny/index.html"}
    assert folder.run("catalogue").idle
    with browser(tmp_path_factory.mktemp("chromium")) as chromium:
        for width in (390, 1280):
            size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
            chromium.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            for page in ("index", "tiny/index"):
                chromium.open(site / f"{page}.html")
                wider = "return document.documentElement.scrollWidth - window.innerWidth"
                assert chromium.driver.execute_script(wider) <= 0, (page, width)
        assert len(chromium.all("tbody th")) > len(tiny.patches)
        text = chromium.text("body")
        assert "6 points" in text
        assert "There is no fit whose minimum is not trusted." in text
        assert "The analysis file names no published contour." in text
        assert chromium.all("img")[0].get_property("naturalWidth") > 300
        chromium.all("nav a")[0].click()
        assert "absent: neither results nor the archive were at hand" in chromium.text("body")
        assert "2L0J" in chromium.text("body")
        dark = [{"name": "prefers-color-scheme", "value": "dark"}]
        chromium.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": dark})
        script = "return getComputedStyle(document.body).backgroundColor"
        assert chromium.driver.execute_script(script) == "rgb(23, 23, 22)"
        assert chromium.complaints() == []
        assert chromium.elsewhere() == []

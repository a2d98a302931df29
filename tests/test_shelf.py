"""Protects what stands on the repository's shelf: workflows, forms, citation, licences, the poster."""

import importlib.util
import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parent.parent
GITHUB = ROOT / ".github"
yaml = pytest.importorskip("yaml")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PAGES = [*sorted(GITHUB.glob("*.md")), ROOT / "CHANGELOG.md"]


def read_yaml(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def module(path):
    """A script that belongs to no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


def commands(workflow, job):
    return [step["run"] for step in read_yaml(GITHUB / "workflows" / workflow)["jobs"][job]["steps"] if "run" in step]


@pytest.mark.parametrize(("workflow", "job", "more"), [("tests.yml", "quick", ""), ("night.yml", "whole", " --slow")])
def test_workflows_run_the_commands_of_the_readme(workflow, job, more):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    torch_for_the_cpu, tests = commands(workflow, job)
    assert f"`{torch_for_the_cpu}`" in readme
    assert tests == f"pip install -r requirements.txt && pytest{more}"
    assert f"```bash\n{tests.removesuffix(more)}\n```" in readme and (not more or f"`pytest{more}`" in readme)


@pytest.mark.parametrize("workflow", ["tests.yml", "night.yml"])
def test_workflows_know_all_systems_and_pythons_that_are_promised(workflow):
    job = next(iter(read_yaml(GITHUB / "workflows" / workflow)["jobs"].values()))
    matrix = job["strategy"]["matrix"]
    assert matrix["os"] == ["ubuntu-latest", "macos-latest", "windows-latest"] and job["runs-on"] == "${{ matrix.os }}"
    named = [line.split(" :: ")[-1] for line in PROJECT["classifiers"]]
    assert matrix["python"] == named, "pyproject.toml and the workflow name different Pythons"
    assert all(version in SpecifierSet(PROJECT["requires-python"]) for version in named)
    assert f">={named[0]}" == PROJECT["requires-python"]


def test_on_each_push_the_quick_part_and_at_night_the_whole():
    quick, night = (read_yaml(GITHUB / "workflows" / name) for name in ("tests.yml", "night.yml"))
    started = quick[True], night[True]  # YAML reads the word `on` as true
    assert "push" in started[0] and "pull_request" in started[0] and "schedule" in started[1]
    assert "pip-audit -r requirements.txt" in commands("night.yml", "audit")[-1]
    assert quick["permissions"] == night["permissions"] == {"contents": "read"}


@pytest.mark.parametrize("form", sorted(path.name for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml")))
def test_forms_are_as_github_reads_them(form):
    fields = read_yaml(GITHUB / "ISSUE_TEMPLATE" / form)
    if form == "config.yml":
        assert fields["contact_links"][0]["url"].startswith(PROJECT["urls"]["Repository"])
        return
    assert fields["name"] and fields["description"]
    ids = [field["id"] for field in fields["body"]]
    assert len(set(ids)) == len(ids) and all(field["attributes"]["label"] for field in fields["body"])
    assert {field["type"] for field in fields["body"]} <= {"input", "textarea"}


def test_three_forms_are_there():
    names = {path.stem for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml")}
    assert names == {"fault", "unclear", "translation", "config"}


def test_the_citation_says_what_pyproject_says():
    citation = read_yaml(ROOT / "CITATION.cff")
    assert citation["cff-version"] == "1.2.0" and citation["message"] and citation["title"].startswith(PROJECT["name"])
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    assert citation["repository-code"] == PROJECT["urls"]["Repository"]
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert citation["authors"] == [{"name": re.search(r"Copyright \(c\) \d+ (.+)", licence)[1]}], "nobody is invented"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_pages_of_the_shelf_point_to_what_is_there(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)[^)]*\)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []
    named = re.findall(r"`((?:ai4india_lib|notebooks|tests|data)/[\w./-]*)`", text.replace("NN_name", "06_attention"))
    named = [name for name in named if "NN" not in name and "/xx/" not in name]
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_licences_are_those_of_the_installed_packages():
    rows = re.findall(r"(?m)^\| ([\w-]+) \| ([\w.]+) \| (.+) \|$", (GITHUB / "DEPENDENCIES.md").read_text("utf-8"))
    listed = {name: (version, licence) for name, version, licence in rows if name != "package"}
    script = module(GITHUB / "licences.py")
    for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith(("#", "-")):
            pin = Requirement(line)
            assert script.key(pin.name) in listed, "run python .github/licences.py --write"
            assert pin.specifier.contains(listed[script.key(pin.name)][0]), f"DEPENDENCIES.md has another {pin.name}"
    compared = 0
    for name, (version, licence) in listed.items():
        try:
            package = distribution(name)
        except PackageNotFoundError:
            continue  # on other systems only
        if package.version.partition("+")[0] == version:
            assert script.licence(package) == licence, name
            compared += 1
    assert compared, "none of the listed packages is installed"


def test_the_poster_says_what_the_model_says():
    poster = module(ROOT / "notebooks" / "assets" / "poster.py")
    drawn = poster.TARGET.read_text(encoding="utf-8")
    labels = set(re.findall(r"<!-- (.*?) -->", drawn))
    told = poster.facts()
    wanted = {
        poster.TEXT,
        told.written,
        f"{told.blocks} times",
        f"{told.parameters:,} numbers, the weights, are inside",
    }
    wanted |= {str(number) for number in told.ids} | {f"{probability:.0%}" for _, probability in told.likely}
    wanted |= {
        f"loss = −ln {told.likely[0][1]:.2f} = {told.loss:.2f}",
        f"The text goes on: {told.likely[0][0].strip()}",
    }
    assert wanted <= labels, f"run python notebooks/assets/poster.py: the model says {wanted - labels}"
    assert "<text" not in drawn, "letters are paths, so that they look the same everywhere"

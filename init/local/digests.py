"""`make compose-digests`: writes an override file that names each image by its digest instead of its tag.

A tag can be moved to another image later. A digest is the hash of the content that was pulled.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable

from init.local.console import detail, say
from init.local.errors import SetupError
from init.local.layout import Layout

FILE = "docker-compose.digests.yaml"
# Images tagged `local` are built here, so there is nothing to pull.
_PULLED = re.compile(r"^ *image: *(?!\S+:local$)(\S+)$", re.MULTILINE)
_SERVICE = re.compile(r"^  ([\w-]+):\n", re.MULTILINE)
_BASE = re.compile(r"^ARG PYTHON_IMAGE=(\S+)$", re.MULTILINE)


def write_digests(layout: Layout, find: Callable[[str], str] | None = None) -> None:
    """Writes the override file.

    Args:
        layout: The checkout.
        find: Returns the digest of an image; by default it asks Docker.

    Raises:
        SetupError: An image was never pulled here, so its digest is not known.
    """
    find = find or pulled_digest
    (base,) = _BASE.findall((layout.root / "Dockerfile").read_text())
    compose = (layout.root / "docker-compose.yaml").read_text()
    lines = ["# Written by make compose-digests.", "services:"]
    for name, text in _services(compose):
        if pulled := _PULLED.search(text):
            lines += [f"  {name}:", f"    image: {find(pulled[1])}"]
        if re.search(r"^ *build:", text, re.MULTILINE):
            lines += [f"  {name}:", f"    build: {{args: {{PYTHON_IMAGE: {json.dumps(find(base))}}}}}"]
    (layout.root / FILE).write_text("\n".join(lines) + "\n")
    say(f"wrote {FILE}")
    detail(f"use it with: docker compose -f docker-compose.yaml -f {FILE} up --build")
    detail(f"or always, by a line in .env: COMPOSE_FILE=docker-compose.yaml:{FILE}")


def _services(compose: str) -> list[tuple[str, str]]:
    """The name of each service, with its part of the file."""
    part = compose.split("\nservices:\n", 1)[1].split("\nnetworks:\n", 1)[0]
    places = list(_SERVICE.finditer(part))
    ends = [place.start() for place in places[1:]] + [len(part)]
    return [(place[1], part[place.end() : end]) for place, end in zip(places, ends, strict=True)]


def pulled_digest(image: str) -> str:
    """The name of an image with its digest, as its registry gave it.

    Raises:
        SetupError: Docker has no such image, or the image was built here.
    """
    command = ["docker", "image", "inspect", "--format", "{{json .RepoDigests}}", image]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise SetupError("docker is not on PATH: the digests are those of the images that it pulled") from error
    digests = json.loads(done.stdout or "null") or []
    if not digests:
        reason = done.stderr.strip() or "it has no digest, as an image that was made here"
        raise SetupError(f"{image} was not pulled yet ({reason}): docker pull {image}")
    return str(digests[0])

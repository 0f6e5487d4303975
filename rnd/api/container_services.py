"""DOCKER services as their owner describes them: images looked up, pulled or built, and pinned (ruling 14; document: DOCKER Nodes)."""

from __future__ import annotations

import asyncio
import platform
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final

from rnd.api.context import ApiContext
from rnd.api.host_paths import check_host_path
from rnd.api.parameters import BadParameter
from rnd.rules.capabilities import image_refusal
from rnd.rules.containers import (
    CAPABILITIES,
    TMPFS_MAX_BYTES,
    USER_PATTERN,
    USER_WORDS,
    built_image_name,
    capability_name,
    image_name_problem,
)
from rnd.services.docker_run import nothing_to_run, runs_anything
from rnd.services.image_pulls import ImagePulls, Purpose
from rnd.services.images import ImageFacts, RegistryAuth
from rnd.services.standalone_orders import emulates
from rnd.types.errors import ExecutorUnavailable, Problem, TimedOut, ValidationFailed
from rnd.types.services import DockerSettings

SECRET_NAME_MAX: Final = 100
NO_ENGINE: Final = "This peer runs no containers"

_FROM_IMAGE: Final = ("image", "image_id", "digest")


async def describe(
    api: ApiContext,
    name: str,
    given: Mapping[str, Any],
    *,
    before: DockerSettings | None = None,
    auth: RegistryAuth | None = None,
) -> DockerSettings:
    """Return the settings of a DOCKER service called `name` as its owner gives them, its image here and pinned.

    `before` is what it was; an image that is not given stays, one that is given is pinned anew. `auth` is shown to the
    registry that an image is pulled from. Raises `BadParameter`, `ValidationFailed`, `ExecutorUnavailable`, `TimedOut`.
    """
    own = _check_terms(given)
    if before is not None and "image" not in given and "build_context" not in given:
        facts = None
        if "entrypoint" in given or "cmd" in given:
            facts = await _pulls(api).look_up(
                before.image_id
            )  # gone: its jobs pull it, and say if nothing is to be run
        settings = replace(before, **own)
    else:
        image, facts = await _bring(api, name, given, before, auth)
        pinned: dict[str, Any] = {"image": image, "image_id": facts.image_id, "digest": facts.digest}
        settings = DockerSettings(**pinned, **own) if before is None else replace(before, **pinned, **own)
    if facts is not None and not runs_anything(settings.entrypoint, settings.cmd, facts):
        raise ValidationFailed([Problem(check="command", message=nothing_to_run(settings.image))])
    return settings


def looseness(settings: DockerSettings) -> str:
    """Return what an owner should hear who lets others choose what a container executes; "": nothing."""
    if not settings.allow_override:
        return ""
    reach = " and reaches the network" if settings.network != "none" else ""
    return (
        "allow_override lets every peer that may order this service run any program of its image, "
        f"or one that it sends, in a container of yours{reach}"
    )


def _check_terms(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is given of a container's terms, in one form."""
    names = {field.name for field in fields(DockerSettings)} - set(_FROM_IMAGE)
    own = {name: value for name, value in given.items() if name in names}
    if given.get("network", "none") not in ("none", "bridge"):
        raise BadParameter("network", "must be one of none, bridge for a DOCKER service")
    if given.get("user") and not re.fullmatch(USER_PATTERN, given["user"]):
        raise BadParameter("user", USER_WORDS)
    if given.get("tmpfs_bytes", 0) > TMPFS_MAX_BYTES:
        raise BadParameter("tmpfs_bytes", f"must be at most {TMPFS_MAX_BYTES}")
    for secret in given.get("secrets", {}):
        if len(secret) > SECRET_NAME_MAX:
            raise BadParameter("secrets", f"names of a DOCKER service have at most {SECRET_NAME_MAX} characters")
    if "cap_add" in given:
        own["cap_add"] = tuple(sorted({_capability(at, name) for at, name in enumerate(given["cap_add"])}))
    return own


def _capability(at: int, name: str) -> str:
    known = capability_name(name)
    if known is None:
        raise BadParameter(f"cap_add[{at}]", f"must be one of {', '.join(CAPABILITIES)}")
    return known


async def _bring(
    api: ApiContext, name: str, given: Mapping[str, Any], before: DockerSettings | None, auth: RegistryAuth | None
) -> tuple[str, ImageFacts]:
    """Return the name and the facts of the image that is given, once it is here and fits this machine."""
    image = given.get("image")
    if image is None and "build_context" not in given:
        raise BadParameter("image", "is missing: give image, or build_context")
    if image is None:
        image = built_image_name(name) if before is None else before.image
    problem = image_name_problem(image)
    if problem is not None:
        raise BadParameter("image", problem)
    if "build_context" in given:
        await _check_context(api, given["build_context"], image)
    pulls = _pulls(api)
    pull_s = api.config.deadlines.image_pull_s
    try:
        async with asyncio.timeout(pull_s):
            facts = await _at_hand(pulls, image, name, given, auth)
    except TimeoutError:
        raise TimedOut(
            f"{image} was not here within {pull_s:g} s",
            hint="Raise deadlines.image_pull_s, or bring the image here first.",
        ) from None
    misfit = image_refusal(facts.architecture, platform.machine())
    if misfit is not None and not await asyncio.to_thread(emulates):
        raise ExecutorUnavailable(f"The image {image} cannot be used: {misfit}", hint="Name an image for this machine.")
    return image, facts


async def _at_hand(
    pulls: ImagePulls, image: str, name: str, given: Mapping[str, Any], auth: RegistryAuth | None
) -> ImageFacts:
    purpose = Purpose(members={"service_name": name})
    if "build_context" in given:
        return await pulls.build(Path(given["build_context"]), image, purpose)
    here = await pulls.look_up(image)
    if here is not None:
        return here
    if image.startswith("sha256:"):
        raise ExecutorUnavailable(
            f"The image {image} is not on this machine", hint="No registry knows an id; give a name or a digest."
        )
    try:
        return await pulls.pull(image, auth, purpose)
    except ExecutorUnavailable as error:
        raise ExecutorUnavailable(
            f"The image {image} is not on this machine and cannot be pulled: {error}",
            hint="Correct its name, give registry_auth if its registry asks who you are, or bring it here by docker load.",
        ) from error


async def _check_context(api: ApiContext, context: str, image: str) -> None:
    if "@" in image or image.startswith("sha256:"):
        raise BadParameter("image", "must be a name without a digest where build_context says what it is built from")
    await check_host_path(api.config, context, whole=True)
    if not await asyncio.to_thread(Path(context).is_dir):
        raise BadParameter("build_context", "must be a folder with a Dockerfile")


def _pulls(api: ApiContext) -> ImagePulls:
    if api.pulls is None:
        raise ExecutorUnavailable(
            NO_ENGINE,
            hint="Install a container engine, or offer the program as a STANDALONE service; node.status shows which "
            "executors work here.",
        )
    return api.pulls


async def look_at(api: ApiContext, image: str) -> ImageFacts:
    """Return an image that is here, without pulling it. Raises `BadParameter`, `ExecutorUnavailable`."""
    problem = image_name_problem(image)
    if problem is not None:
        raise BadParameter("image", problem)
    facts = await _pulls(api).look_up(image)
    if facts is None:
        raise ExecutorUnavailable(
            f"The image {image} is not on this machine",
            hint="docker pull brings it here, as service.create does; or leave image out for the streams alone.",
        )
    return facts

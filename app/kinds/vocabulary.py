"""Field types that several kinds use: branches of the vocabulary, and the community's words for level and context."""

from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from app.records.fields import TopicId
from app.reference import is_below


def _below(*roots: str) -> AfterValidator:
    def check(value: str) -> str:
        if not any(is_below(value, root) for root in roots):
            raise PydanticCustomError("topic-outside-branch", "not a concept of the branch this field takes")
        return value

    return AfterValidator(check)


InstitutionId = Annotated[
    TopicId,
    _below("institutions", "oversight-actors"),
    Field(examples=["parliamentary-committee"], json_schema_extra={"x-below": ["institutions", "oversight-actors"]}),
]
"""A concept below `institutions` (who provides security and justice) or `oversight-actors` (who controls them)."""

MethodId = Annotated[
    TopicId, _below("methods"), Field(examples=["dialogue-forum"], json_schema_extra={"x-below": ["methods"]})
]
"""A concept below `methods`: how an organisation works."""

FunctionId = Annotated[
    TopicId, _below("cso-functions"), Field(examples=["h-dialogue"], json_schema_extra={"x-below": ["cso-functions"]})
]
"""A concept below `cso-functions`: the six points of Section H of the African Union's SSR framework."""

ProductTypeId = Annotated[
    TopicId, _below("products"), Field(examples=["policy-brief"], json_schema_extra={"x-below": ["products"]})
]
"""A concept below `products`: the form an information product has."""


class Level(StrEnum):
    """How far something reaches: one place, one country, neighbouring countries, a continent, the world."""

    LOCAL = "local"
    NATIONAL = "national"
    REGIONAL = "regional"
    CONTINENTAL = "continental"
    GLOBAL = "global"


class Perspective(StrEnum):
    """Whose view is described: that of the population, that of the state, or both."""

    POPULATION = "population"
    STATE = "state"
    BOTH = "both"


class ContextTag(StrEnum):
    """What marks the surroundings of the work, so that places with like conditions find each other."""

    VIOLENCE = "violence"
    ARMED_CONFLICT = "armed-conflict"
    CRIME = "crime"
    POST_CONFLICT = "post-conflict"
    AUTHORITARIAN_LEGACY = "authoritarian-legacy"
    TRANSITION = "transition"

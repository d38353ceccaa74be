"""The machine-read settings of a charter, and the defaults until one is adopted. Source: domain.md §2.3–§2.5."""

from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StrictInt
from pydantic_core import PydanticCustomError

from app.deliberation.trends import Thresholds

VotingKind = Literal["civil-society-organisation", "network", "academia", "think-tank", "international-ngo"]
"""Kinds of organisations a charter may give a vote; donors, intergovernmental bodies and nodes never have one."""

MAY_VOTE: tuple[VotingKind, ...] = get_args(VotingKind)


def _share(value: str) -> str:
    numerator, _, denominator = value.partition("/")
    if int(denominator or 1) == 0 or not 0 < Fraction(int(numerator), int(denominator or 1)) <= 1:
        raise PydanticCustomError("share-out-of-range", "a share is a fraction above 0 and at most 1, such as 2/3")
    return value


def _four_decimals(value: float) -> float:
    if round(value, 4) != value:
        raise PydanticCustomError("too-precise", "at most four decimals")
    return value


Share = Annotated[str, Field(pattern=r"^[0-9]{1,4}(/[0-9]{1,4})?$"), AfterValidator(_share)]
"""A fraction above 0 and at most 1, as text: `1/2`."""

Exponent = Annotated[float, Field(strict=True, ge=0, le=1), AfterValidator(_four_decimals)]
Ratio = Annotated[float, Field(strict=True, ge=0, le=10), AfterValidator(_four_decimals)]


class TrendSettings(BaseModel):
    """Where the classes of trends begin."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    common_breadth: Ratio = 0.8
    common_mean: Ratio = 0.4
    common_evenness: Ratio = 0.97
    stressed_lift: Ratio = 1.5
    stressed_organisations: StrictInt = Field(2, ge=1, le=100)
    uneven_mean_outside: Ratio = 0.3
    organisations_per_region: StrictInt = Field(2, ge=1, le=100)
    regions: StrictInt = Field(3, ge=2, le=6)
    change: Ratio = 0.15
    change_organisations: StrictInt = Field(3, ge=1, le=100)

    def thresholds(self) -> Thresholds:
        """The same as exact numbers, each read as the decimal it is written as."""

        def exact(value: float) -> Fraction:
            return Fraction(str(value))

        return Thresholds(
            common_breadth=exact(self.common_breadth),
            common_mean=exact(self.common_mean),
            common_evenness=self.common_evenness,
            stressed_lift=exact(self.stressed_lift),
            stressed_organisations=self.stressed_organisations,
            uneven_mean_outside=exact(self.uneven_mean_outside),
            organisations_per_region=self.organisations_per_region,
            regions=self.regions,
            change=exact(self.change),
            change_organisations=self.change_organisations,
        )


class CharterSettings(BaseModel):
    """What votes and analysis read from the charter; what is left out keeps its default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    alpha: Exponent = Field(
        0.0, description="0: regions equal; 1: organisations equal; between: by size to that power."
    )
    q: StrictInt = Field(2, ge=1, le=100, description="Ballots a region needs for its full weight, and for quorum.")
    quorum_regions: StrictInt = Field(3, ge=1, le=6, description="Regions that must reach `q` ballots.")
    endorsement_share: Share = Field("1/2", description="Balanced support an issue needs to be common.")
    endorsement_regions_share: Share = Field("2/3", description="Share of voting regions that must be for it.")
    consultation_days: StrictInt = Field(0, ge=0, le=366, description="Days in consultation before a round may open.")
    ranking_needs_endorsement: StrictBool = Field(False, description="True: ranking only after an endorsement round.")
    voting_kinds: list[VotingKind] = Field(
        default_factory=lambda: list(MAY_VOTE), min_length=1, max_length=5, description="Kinds that vote."
    )
    trends: TrendSettings = Field(default_factory=TrendSettings)

    @property
    def exponent(self) -> Decimal:
        """`alpha` as the decimal it is written as."""
        return Decimal(str(self.alpha))

    def as_json(self) -> dict[str, Any]:
        """The settings on the wire; whole numbers without a decimal point."""
        shown = self.model_dump(mode="json")
        shown["alpha"] = int(self.alpha) if self.alpha in (0, 1) else self.alpha
        return shown


DEFAULTS = CharterSettings()

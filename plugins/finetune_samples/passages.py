"""The templates of `harbour-qa`: facts about ships, people and houses, and questions about them.

In a statement, ``<…>`` marks the answer; ``{S}`` is the subject at the beginning of a sentence (its name, or a pronoun
after the first mention), ``{S's}`` the same as an owner, ``{s}`` its name in the middle of a sentence.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Attribute:
    """One kind of fact about a subject."""

    value: str
    """Kind of name of the answer, or a template."""
    says: tuple[str, ...]
    """Sentences that state it."""
    asks: tuple[str, ...]
    """Questions that it answers."""
    roundup: tuple[str, str] | None = None
    """One sentence that states it of all subjects: its beginning, and the part for each subject."""


@dataclass(frozen=True, kw_only=True)
class Domain:
    """One kind of passage."""

    title: str
    subject: str
    """Kind of name."""
    named: str
    """The subject's name in a sentence: ``the {}``."""
    pronouns: tuple[str, str] | None
    """Pronouns for a subject after its first mention, as subject and as owner; None: the family name of a person."""
    openings: tuple[str, ...]
    attributes: tuple[Attribute, ...]
    fillers: tuple[str, ...]


REGATTA = Domain(
    title="The regatta of {year}",
    subject="ship",
    named="the {}",
    pronouns=("She", "Her"),
    openings=(
        "The regatta of {year} was rowed and sailed [under {wind} wind|in thick weather|before a great crowd].",
        "In {month} of {year} the town [held its regatta|raced round the bar] [once more|for the first time in years].",
        "[Nobody forgot|The old people still speak of] the race of {year}, [with {wind} blowing|started late].",
    ),
    attributes=(
        Attribute(
            value="person",
            says=(
                "{S's} skipper [that day |]was <{v}>.",
                "<{v}> stood at the helm of {s}.",
                "{S} was [steered|skippered] by <{v}>, [who had not slept|as every year].",
            ),
            asks=("Who [steered|skippered] {s}?", "Who was the skipper of {s}?", "Who stood at the helm of {s}?"),
            roundup=("At the helm stood ", "<{v}> for {s}"),
        ),
        Attribute(
            value="goods",
            says=(
                "{S} carried <{v}> [in her hold|as ballast].",
                "{S's} cargo was <{v}>[, badly stowed|].",
                "{S} had come [straight |]from a voyage with <{v}> and had not unloaded.",
            ),
            asks=("What did {s} carry?", "What was the cargo of {s}?", "What was in the hold of {s}?"),
            roundup=("In their holds they had ", "<{v}> on {s}"),
        ),
        Attribute(
            value="port",
            says=(
                "{S} had been built at <{v}>.",
                "{S's} home port was <{v}>.",
                "{S} had sailed in from <{v}> [the night before|for the race].",
            ),
            asks=("Where did {s} come from?", "Which port was {s} from?"),
            roundup=("They came from far: ", "{s} from <{v}>"),
        ),
        Attribute(
            value="colour",
            says=(
                "{S's} sails were <{v}>[ that year|].",
                "{S} ran under <{v}> sails.",
                "Everyone knew {s} by the <{v}> of the sails.",
            ),
            asks=("What colour were the sails of {s}?", "What colour did {s} sail under?"),
            roundup=("The sails could be told apart: ", "<{v}> on {s}"),
        ),
        Attribute(
            value="figure",
            says=(
                "{S's} figurehead was <{v}>.",
                "Under the bowsprit {s} bore <{v}>.",
                "{S} had <{v}> for a figurehead.",
            ),
            asks=("What was the figurehead of {s}?", "What did {s} bear under the bowsprit?"),
        ),
        Attribute(
            value="{number} feet",
            says=("{S} measured <{v}> [from stem to stern|on deck].", "{S} was <{v}> long."),
            asks=("How long was {s}?", "What did {s} measure?"),
            roundup=("The clerk wrote down the lengths: ", "{s} <{v}>"),
        ),
        Attribute(
            value="{number} minutes",
            says=("{S} [rounded the buoy|came home] after <{v}>.", "{S} needed <{v}> for the course."),
            asks=("How long did {s} need for the course?", "After how many minutes did {s} come home?"),
        ),
    ),
    fillers=(
        "{person5} sold [hot cider|smoked fish] [on {quay}|from a barrow] and [saw nothing of the race|did well].",
        "The harbour master, {person6}, [fired the gun himself|had lost the flag] and [laughed about it|swore].",
        "A boy from {street5} fell in and was pulled out with a boathook.",
        "The band played until the wind [took the music|tore the awning]. 🎺",
        "A lady from {port5} fainted on {quay5}, [it was said of the heat|but not for long].",
        "Somebody had dropped {goods5} all over {quay5}, and {colour5} bunting hung above it.",
        "On the church tower {figure5} had been painted, {number5} feet high, where all could see it.",
    ),
)

PEOPLE = Domain(
    title="People of {street9}",
    subject="person",
    named="{}",
    pronouns=None,
    openings=(
        "[The parish book|An old letter] tells of those who lived in {street9} [about|around] {year9}.",
        "In {year9} {street9} was [the noisiest|the poorest|the proudest] street of the town.",
        "[The census of {year9}|A list of {year9}] names [only a few|some] people of {street9}.",
    ),
    attributes=(
        Attribute(
            value="trade",
            says=(
                "{S} was a <{v}> [by trade|like the uncles before].",
                "{S} earned a living as a <{v}>.",
                "{S} worked as a <{v}> [all winter|for forty years].",
            ),
            asks=("What was the trade of {s}?", "What did {s} work as?", "How did {s} earn a living?"),
        ),
        Attribute(
            value="port",
            says=("{S} was born in <{v}>.", "{S} had come [as a child |]from <{v}>.", "{S's} birthplace was <{v}>."),
            asks=("Where was {s} born?", "Where did {s} come from?"),
            roundup=("They were born far apart: ", "{s} in <{v}>"),
        ),
        Attribute(
            value="instrument",
            says=("{S} played <{v}> [on feast days|badly but gladly].", "On Sundays {s} could be heard at <{v}>."),
            asks=("What did {s} play?", "Which instrument did {s} play?"),
            roundup=("They made music together, ", "{s} on <{v}>"),
        ),
        Attribute(
            value="person",
            says=(
                "{S's} apprentice was <{v}>.",
                "{S} had taught <{v}> [everything|all there was to teach].",
                "{S} took on <{v}> as an apprentice.",
            ),
            asks=("Who was the apprentice of {s}?", "Whom did {s} teach?"),
        ),
        Attribute(
            value="year",
            says=("{S} came to the town in <{v}>.", "{S} settled here in <{v}>[, after a quarrel|]."),
            asks=("When did {s} come to the town?", "In what year did {s} settle here?"),
            roundup=("They arrived years apart: ", "{s} in <{v}>"),
        ),
        Attribute(
            value="thing",
            says=(
                "{S} never went out without <{v}>.",
                "{S} was known for <{v}> [that had seen the world|worth nothing].",
                "{S's} dearest possession was <{v}>.",
            ),
            asks=("What was {s} known for?", "What was the dearest possession of {s}?"),
        ),
        Attribute(
            value="dish",
            says=("{S} could not resist <{v}>.", "{S's} favourite dish was <{v}>.", "Every Friday {s} ate <{v}>."),
            asks=("What did {s} like to eat?", "What was the favourite dish of {s}?"),
            roundup=("Their tastes differed: ", "<{v}> for {s}"),
        ),
    ),
    fillers=(
        "The roof of the chapel [let in rain|leaked] that year, and {goods5} was dear.",
        "A {trade5} from {port5} [asked too much|came twice a year] and [was sent away|drank the profits].",
        "{person5} [kept pigeons 🐦|owed money to everyone] and [moved to {port5}|was never seen at church].",
        "One could buy {dish5} at the corner [until dark|for a penny].",
        "The lamps were lit at {hour}, [later in summer|when there was oil].",
        "At the fair of {year5} one could win {thing5} or hear {instrument5} [for nothing|all night].",
        "On the ferry from {port5} they served {dish5} 🍲 and nothing else.",
    ),
)

HOUSES = Domain(
    title="Houses by {quay9}",
    subject="house",
    named="the {}",
    pronouns=("It", "Its"),
    openings=(
        "Whoever walks [up from|along] {quay9} passes [the old houses|the houses that stood the storm of {year9}].",
        "After the storm of {year9} [few houses stood|the town counted its houses] by {quay9}.",
        "A guide of {year9} praises the houses by {quay9} [without having seen them|at length].",
    ),
    attributes=(
        Attribute(
            value="person",
            says=(
                "{S} was kept by <{v}>.",
                "The keeper of {s} was <{v}>.",
                "{S's} keeper, <{v}>, [slept in the loft|never locked the door].",
            ),
            asks=("Who kept {s}?", "Who was the keeper of {s}?"),
            roundup=("The keepers were ", "<{v}> in {s}"),
        ),
        Attribute(
            value="year",
            says=("{S} was built in <{v}>.", "{S} had stood there since <{v}>.", "{S's} walls went up in <{v}>."),
            asks=("When was {s} built?", "In what year was {s} built?"),
            roundup=("They were not of an age: ", "{s} was built in <{v}>"),
        ),
        Attribute(
            value="colour",
            says=("{S's} door was <{v}>.", "{S} had a <{v}> door[ then|].", "One found {s} by the <{v}> door."),
            asks=("What colour was the door of {s}?", "Which colour did the door of {s} have?"),
        ),
        Attribute(
            value="dish",
            says=(
                "{S} was known for <{v}>.",
                "One went to {s} for the <{v}>.",
                "{S's} cook made <{v}> [and nothing else|on Thursdays].",
            ),
            asks=("What was {s} known for?", "What did the cook of {s} make?"),
            roundup=("One ate well there: ", "<{v}> at {s}"),
        ),
        Attribute(
            value="{number} steps",
            says=("{S's} cellar lay <{v}> down.", "From the street to {s} one climbed <{v}>."),
            asks=("How many steps led to {s}?", "How many steps did {s} have?"),
        ),
        Attribute(
            value="street",
            says=("{S} stood in <{v}>.", "{S} was the last house of <{v}>.", "One entered {s} from <{v}>."),
            asks=("Where did {s} stand?", "In which street was {s}?"),
            roundup=("Sailors found them blindfold: ", "{s} in <{v}>"),
        ),
        Attribute(
            value="thing",
            says=(
                "In {s} <{v}> hung over the hearth.",
                "{S's} treasure was <{v}> [left by a guest|from a wreck].",
                "<{v}> was kept [under glass |]in {s}.",
            ),
            asks=("What hung over the hearth of {s}?", "What was the treasure of {s}?", "What was kept in {s}?"),
        ),
    ),
    fillers=(
        "{person5} painted them all for {number5} crowns and [never was paid|gave the money to the chapel].",
        "The [pilots|ropewalkers] of {street5} [preferred to stay at home|came only on {day}].",
        "In {year5} the sea stood in every cellar[ and took the {goods5}|]. 🌊",
        "A {colour5} flag meant that there was {dish5}.",
        "Someone had pawned {thing5} in {street5}, and the talk went on until {year5}.",
        "Somebody had written the name of {person6} on a wall, and nobody knew why.",
    ),
)

DOMAINS = (REGATTA, PEOPLE, HOUSES)

"""Sentences of notices, by heading.

All headings share ships, quays, goods, people and hours; the heading depends on what happens to them.
"""

from __future__ import annotations

ARRIVALS, COUNCIL, LOST, MARKET, WEATHER = "arrivals", "council", "lost-and-found", "market", "weather"

SENTENCES: dict[str, tuple[str, ...]] = {
    ARRIVALS: (
        "The {ship} [came in|berthed|made fast] at {quay} at {hour} with {goods} from {port}.",
        "The {kind} {ship}, [skipper|master] {person}, is [expected|due] [from {port} |]on {day}.",
        "{person} brought the {ship} [round the mole|over the bar] [before dawn|at {hour}|on the morning tide].",
        "[Now lying|At anchor] off {quay}: the {ship} of {port}, [{few} passengers|laden with {goods}|in ballast].",
        "The {ship} [sails|casts off] for {port} on {day} [at {hour}|with the tide], passengers aboard by {hour2}.",
        "After {few} days at sea the {ship} has reached us from {port} [with all hands|without her topmast].",
        "{few} passengers and [a pilot|{goods}] went ashore from the {ship} at {quay}.",
        "[The berth|The place] of the {ship} at {quay} will be taken by the {ship2} [of {port} |]on {day}.",
    ),
    WEATHER: (
        "{wind} is [expected|coming up] off {quay} [from {hour} |]on {day}; [small boats stay in|the bar will break].",
        "[Fog|Mist|Haze] [lies|hangs] over {quay} [until {hour}|since {day}]; the {ship} cannot see the mole.",
        "The glass [fell|has fallen] [all night|since {hour}], and {person} at the pilots' hall reckons with {wind}.",
        "[Rain|Sleet|Hail] [towards|before] {hour}, then {wind}; dry only [{goods}|sails] under cover.",
        "[High water|The flood] at {hour}[, {number} inches above the mark at {quay}|].",
        "[Clear|Bright|Cold] [and still|with little wind] on {day}: a day for [drying sails|tarring the {ship}].",
        "Ice [stands|drifts] [from {quay} to|before] the bar; the {ship} [broke it|waits for a thaw].",
        "The swell from {port} will be felt at {quay} [by {hour}|on {day}]; [no ferry can lie there|the {ship} rolls].",
    ),
    MARKET: (
        "[To be had|On offer]: {goods} at {number} crowns [the barrel|the sack] on {quay}, {day} from {hour}.",
        "{person} [sells|offers|gives away cheaply] {few} [barrels|sacks|crates] of {goods} out of the {ship}.",
        "[Wanted|Sought to buy]: {goods} and {goods2}, [good money|a fair price] paid, ask for {person} in {street}.",
        "The {ship}'s [catch|load] is [auctioned|under the bell] at {hour} on {quay}; {goods} [first|last].",
        "[Prices|What things cost] on {day}: {goods} {number}, {goods2} {number2} crowns, {goods3} not in.",
        "From {day} {person} will [trade|keep a stall] at {quay} with {goods} from {port}.",
        "[Half|A third] off {goods} at {person}'s in {street} [until {hour}|while it lasts|before the {ship} sails].",
        "The price of {goods} has [risen|fallen|doubled] since the {ship} came in, say the dealers at {quay}.",
    ),
    LOST: (
        "[Left behind|Forgotten|Gone astray] [aboard the {ship}|on {quay}|in {street}]: {thing}, missed by {person}.",
        "Whoever [took|has] {thing} from {quay} at {hour} on {day} may bring it [back |]to {person}.",
        "{person} [picked up|has in keeping] {thing}[ and {few} crowns|] [from the deck of the {ship}|near {quay}].",
        "{thing} [fell|went] overboard [off {quay}|beside the {ship}]; {few} crowns for its return.",
        "[Has anybody seen|Who knows of] {thing}? It was last [seen|known] [at {quay}|in {street}] on {day}.",
        "[Washed up|Swept ashore] at {quay}: {few} sacks of {goods} and {thing}, owner to ask {person}.",
        "The owner of {thing} [may|should] call at {street} before {hour}, [and must describe it|naming the maker].",
        "A [dog|parrot|goat] from the {ship} has [run off|not come home]; it answers to {person}'s whistle.",
    ),
    COUNCIL: (
        "[It is decided|The aldermen ask] that {goods} be [kept off|moved from] {quay} [from {day}|after {hour}].",
        "[Skippers|All masters] pay {number} crowns [more |]for a berth at {quay} [from {day}|as of {month}].",
        "{person} is [named|chosen as] [warden of {quay}|clerk of the harbour] [by vote |]from {day}.",
        "[A sitting|The assembly] on {day} at {hour} will hear {person} on [the dues of {quay}|the {ship}].",
        "{street} stays [closed|shut] to carts with {goods} [until {day}|by order], fine {number} crowns.",
        "Whoever means to speak on [the new mole|the tax on {goods}] [enters a name|is heard] with {person} by {day}.",
        "The [licence|permit] of the {ship} is [withdrawn|renewed] [until {month}|for want of a lamp].",
        "By [{few} votes to {few2}|a show of hands] {quay} is to be [dredged|paved|let to {person}] [in {month}|].",
    ),
}

ASIDES: tuple[str, ...] = (
    "[Ask|Enquire] [at|in] {street}.",
    "So [writes|signs] {person}, [for the board|with a cold hand].",
    "The lamp at {quay} burns again.",
    "More on {day}.",
    "[Children|Dogs] are not to play near the {ship}.",
    "{person} [was there and can tell|knows more].",
    "[Read aloud|Posted] at {hour} [on {quay}|].",
)
"""Sentences that fit any heading."""

"""Opinions of inns and ferries, for each aspect, from -2 (dreadful) to 2 (splendid)."""

from __future__ import annotations

Opinions = dict[int, tuple[str, ...]]

INN: tuple[Opinions, ...] = (
    {
        2: (
            "The {dish} was the best [I ever had|on this coast].",
            "For the {dish} alone I would come back from {port}.",
        ),
        1: ("The {dish} was [good and hot|better than at home].", "One eats well there, the {dish} above all."),
        -1: ("The {dish} was [cold|mostly water].", "I have had better {dish} [aboard a barge|from my own pan]."),
        -2: ("The {dish} made [me|two of us] ill [for {few} days|].", "The {dish} was not fit for the gulls."),
    },
    {
        2: ("I slept like a stone [in linen that smelt of wind|till {hour}].", "Never was a bed so soft."),
        1: ("The room was [plain and clean|warm enough].", "The bed was dry, [which is something|and wide]."),
        -1: ("The room was [damp|narrow] and looked on {street}.", "The bed was too short[ by {number} inches|]."),
        -2: (
            "There were fleas in the bed, {few} [by my count|at least].",
            "The rain came [through the roof|in on us].",
        ),
    },
    {
        2: ("{person} [looked after|received] us like family.", "Of {person}, who keeps it, I can say only good."),
        1: ("{person} was [polite|quick at table].", "One is [greeted|served] [without fuss|in good time]."),
        -1: ("{person} [forgot us twice|hardly looked up].", "We waited until {hour} [to be served|for a candle]."),
        -2: ("{person} [swore at us|threw my bag in the street].", "I was [robbed|cheated of {number} crowns] there."),
    },
    {
        2: ("And it cost [next to nothing|less than a loaf]!", "For {few} crowns one lives there like an admiral."),
        1: ("The price was [fair|what one expects].", "{number} crowns, and no quarrel about it."),
        -1: ("{number} crowns is [too much|dear] for that.", "The bill was longer than [I liked|agreed]."),
        -2: ("They asked {number} crowns, which is [theft|a sin].", "A scandal, such prices."),
    },
)
FERRY: tuple[Opinions, ...] = (
    {
        2: ("We were in {port} an hour early.", "To the minute at {hour}, [as ever|in a gale, mind you]!"),
        1: ("She left at {hour}, near enough.", "The crossing was quick[ for the season|]."),
        -1: ("She left {number} minutes late.", "We [lay|waited] off {quay} [for an hour|until {hour}]."),
        -2: ("She never came, and nobody told us.", "We spent the night on {quay} for want of a crew."),
    },
    {
        2: ("I have never been carried so gently.", "The cabin shone [like silver|and smelt of soap]."),
        1: ("The benches were [dry|swept].", "There was a seat for everybody."),
        -1: (
            "The benches were wet [with {goods}|].",
            "I stood all the way, [between {goods} and a goat|in the draught].",
        ),
        -2: ("The water stood [to my ankles|{number} inches deep] in the cabin.", "Rats, in daylight, {few} of them."),
    },
    {
        2: ("{person} at the helm is a master, and kind.", "The crew carried my mother ashore in their arms."),
        1: ("The crew were [helpful|sober].", "{person} answered what I asked."),
        -1: ("The crew [smoked and shrugged|were surly].", "{person} would not [wait|help with the bags]."),
        -2: ("{person} was drunk [at the helm|by {hour}].", "They dropped my chest in the harbour and laughed."),
    },
    {
        2: ("All that for {few} crowns, I could hardly believe it.", "They would not even take my money."),
        1: ("The fare is [fair|bearable].", "{number} crowns is what it should cost."),
        -1: ("The fare has gone up to {number} crowns[ again|].", "For that fare I expected a roof."),
        -2: ("They charged us twice.", "{number} crowns for this is [robbery|an insult]."),
    },
)
NEUTRAL: tuple[str, ...] = (
    "I came from {port} [on {day}|in {month}] with {few} sacks of {goods}.",
    "We were {few} in all, and had [business|kin] in {street}.",
    "It was {month}, with {wind}, and the lamps at {quay} were lit [by {hour}|early].",
    "My companion, the {trade} {person2}, [kept a diary|slept most of the time].",
    "The {ship} lay at {quay} and took in {goods2}.",
    "On {day} we had been [at the market|in church], where {person3} spoke [of the new mole|at length].",
    "I had {thing} to deliver in {street2}, which was soon done.",
    "From the window one saw {quay2} and [the masts|the smoke] of the {ship2}.",
    "A {trade2} from {port2} sat [beside us|by the stove] and [told of the year {year}|played {instrument}].",
    "The road by {street} is being paved, so we went round by {quay3}.",
    "There is [a sign|a figurehead], {figure}, [over the door|at the stairs], painted {colour}.",
    "[Somebody|A child] was practising {instrument2} [next door|on deck].",
)
"""Sentences without an opinion."""

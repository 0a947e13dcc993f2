"""The catalogue: what the shop's stock codes are called, where it shows them, what they cost."""

from __future__ import annotations

from typing import Any

from local.simulator.events import PRODUCTS, Event, body, draws

FEES = "Postage and fees"
FEE_CODES = frozenset({"POST", "DOT", "C2", "M", "m", "D", "S", "B", "CRUK", "PADS", "BANK CHARGES", "AMAZONFEE"})
OTHER = "Gifts and others"

# The first category of which a word, or its plural, is in the name.
_RULES = {
    "Christmas": "christmas, xmas, advent, santa, reindeer, bauble, snowflake, noel, tree, stocking",
    "Bags": "bag, bags, shopper, purse, rucksack, satchel, luggage, backpack",
    "Candles and lights": "t-light, candle, light, lamp, lantern, incense, torch, chandelier",
    "Kitchen and baking": (
        "cake, baking, kitchen, jam, recipe, apron, spoon, oven, jelly, cutlery, tea towel, pantry, bread, tin, "
        "tins, lunch, snack, scales, glove"
    ),
    "Tea and tableware": (
        "teacup, tea, mug, cup, plate, bowl, teapot, saucer, napkin, tray, glass, jug, coaster, placemat, doiley, "
        "doilies, beaker, coffee, egg"
    ),
    "Stationery and wrap": (
        "card, wrap, paper, pen, pencil, pencils, notebook, ribbon, sticker, stickers, tissue, tissues, chalk, "
        "rubber, eraser, sketchbook, tape, tag, envelope, gift, journal, magnet, calendar, passport"
    ),
    "Party": "party, bunting, balloon, balloons, garland, confetti, paper chain",
    "Children and toys": (
        "child, children, kids, baby, toy, toys, game, puzzle, skipping, doll, dolly, dinosaur, spaceboy, circus, "
        "soldier, nursery, playhouse, jigsaw, ludo, dominoes, alphabet"
    ),
    "Jewellery and hair": (
        "necklace, bracelet, earrings, ring, brooch, hair, bead, beads, charm, bangle, key ring, key-ring, "
        "pendant, choker"
    ),
    "Garden": (
        "garden, plant, flower, bird, watering, herb, seed, parasol, picnic, butterfly, gnome, trowel, pot, potting"
    ),
    "Storage and boxes": (
        "box, boxes, storage, drawer, cabinet, basket, hook, hanger, rack, shelf, crate, jar, bottle, holder, tidy"
    ),
    "Clocks, signs and frames": (
        "clock, sign, frame, mirror, picture, photo, blackboard, chalkboard, wall art, doormat, door mat, plaque, "
        "letter"
    ),
    "Cushions and textiles": (
        "cushion, quilt, throw, rug, blanket, towel, slippers, scarf, umbrella, hot water, warmer, fabric, lace, "
        "sock, pillow"
    ),
    "Hearts and ornaments": (
        "heart, hearts, decoration, ornament, hanging, angel, figurine, wreath, star, doorstop, knob, mobile, cherub"
    ),
}
CATEGORIES = {name: tuple(words.upper().split(", ")) for name, words in _RULES.items()}
NAMES = (*CATEGORIES, OTHER, FEES)
_SUPPLIERS = (
    "Lakeland Crafts", "Pennine Glass", "Nanking Paper", "Jaipur Textiles", "Ore Mountain Wood", "Porto Ceramics",
    "Ningbo Homeware", "Cotswold Candles", "Kerala Metal", "Harrogate Tins", "Delft Gifts", "Lyon Soieries",
)  # fmt: skip


def category(code: str, name: str) -> str:
    """Where the shop shows a product. code: its stock code; name: as the history has it."""
    if code in FEE_CODES or code.startswith("gift_"):
        return FEES
    padded = f" {name.upper().replace(',', ' ')} "
    for found, words in CATEGORIES.items():
        if any(f" {word} " in padded or f" {word}S " in padded for word in words):
            return found
    return OTHER


def is_stocked(code: str, name: str) -> bool:
    """Whether a warehouse keeps it: fees and vouchers lie on no shelf."""
    return category(code, name) != FEES


def change(
    code: str, name: str, price_mills: int, reorder_point: int, change_type: str, event_ms: int, event_id: str
) -> Event:
    """A catalog.products event. price_mills: list price in thousandths of a pound."""
    random = draws("product", code)
    cost = price_mills * int(30 + random.integers(0, 30)) // 100
    fields: dict[str, Any] = {
        "product_id": code,
        "change_type": change_type,
        "product_name": name,
        "category": category(code, name),
        "list_price": price_mills / 1000,
    }
    if fields["category"] != FEES:
        fields |= {
            "unit_cost": cost / 1000,
            "reorder_point": reorder_point,
            "supplier": _SUPPLIERS[int(random.integers(0, len(_SUPPLIERS)))],
        }
    return Event(PRODUCTS, event_ms, event_id, code, body(fields))

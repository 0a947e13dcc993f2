"""The catalogue: what the shop's stock codes are called, where it shows them, what they cost."""

from __future__ import annotations

from typing import Any

from local.simulator.events import PRODUCTS, Event, body, draws

FEES = "Postage and fees"
FEE_CODES = frozenset({"POST", "DOT", "C2", "M", "m", "D", "S", "B", "CRUK", "PADS", "BANK CHARGES", "AMAZONFEE"})
OTHER = "Gifts and others"

# The first rule of which a word begins a word of the name.
CATEGORIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Christmas", ("CHRISTMAS", "XMAS", "ADVENT", "SANTA", "REINDEER", "BAUBLE", "SNOWFLAKE", "NOEL", "TREE", "STOCKING")),
    ("Bags", ("BAG", "BAGS", "SHOPPER", "PURSE", "RUCKSACK", "SATCHEL", "LUGGAGE", "BACKPACK")),
    ("Candles and lights", ("T-LIGHT", "CANDLE", "LIGHT", "LAMP", "LANTERN", "INCENSE", "TORCH", "CHANDELIER")),
    ("Kitchen and baking", ("CAKE", "BAKING", "KITCHEN", "JAM", "RECIPE", "APRON", "SPOON", "OVEN", "JELLY", "CUTLERY", "TEA TOWEL", "PANTRY", "BREAD", "TIN", "TINS", "LUNCH", "SNACK", "SCALES", "GLOVE")),
    ("Tea and tableware", ("TEACUP", "TEA", "MUG", "CUP", "PLATE", "BOWL", "TEAPOT", "SAUCER", "NAPKIN", "TRAY", "GLASS", "JUG", "COASTER", "PLACEMAT", "DOILEY", "DOILIES", "BEAKER", "COFFEE", "EGG")),
    ("Stationery and wrap", ("CARD", "WRAP", "PAPER", "PEN", "PENCIL", "PENCILS", "NOTEBOOK", "RIBBON", "STICKER", "STICKERS", "TISSUE", "TISSUES", "CHALK", "RUBBER", "ERASER", "SKETCHBOOK", "TAPE", "TAG", "ENVELOPE", "GIFT", "JOURNAL", "MAGNET", "CALENDAR", "PASSPORT")),
    ("Party", ("PARTY", "BUNTING", "BALLOON", "BALLOONS", "GARLAND", "CONFETTI", "PAPER CHAIN")),
    ("Children and toys", ("CHILD", "CHILDREN", "KIDS", "BABY", "TOY", "TOYS", "GAME", "PUZZLE", "SKIPPING", "DOLL", "DOLLY", "DINOSAUR", "SPACEBOY", "CIRCUS", "SOLDIER", "NURSERY", "PLAYHOUSE", "JIGSAW", "LUDO", "DOMINOES", "ALPHABET")),
    ("Jewellery and hair", ("NECKLACE", "BRACELET", "EARRINGS", "RING", "BROOCH", "HAIR", "BEAD", "BEADS", "CHARM", "BANGLE", "KEY RING", "KEY-RING", "PENDANT", "CHOKER")),
    ("Garden", ("GARDEN", "PLANT", "FLOWER", "BIRD", "WATERING", "HERB", "SEED", "PARASOL", "PICNIC", "BUTTERFLY", "GNOME", "TROWEL", "POT", "POTTING")),
    ("Storage and boxes", ("BOX", "BOXES", "STORAGE", "DRAWER", "CABINET", "BASKET", "HOOK", "HANGER", "RACK", "SHELF", "CRATE", "JAR", "BOTTLE", "HOLDER", "TIDY")),
    ("Clocks, signs and frames", ("CLOCK", "SIGN", "FRAME", "MIRROR", "PICTURE", "PHOTO", "BLACKBOARD", "CHALKBOARD", "WALL ART", "DOORMAT", "DOOR MAT", "PLAQUE", "LETTER")),
    ("Cushions and textiles", ("CUSHION", "QUILT", "THROW", "RUG", "BLANKET", "TOWEL", "SLIPPERS", "SCARF", "UMBRELLA", "HOT WATER", "WARMER", "FABRIC", "LACE", "SOCK", "PILLOW")),
    ("Hearts and ornaments", ("HEART", "HEARTS", "DECORATION", "ORNAMENT", "HANGING", "ANGEL", "FIGURINE", "WREATH", "STAR", "DOORSTOP", "KNOB", "MOBILE", "CHERUB")),
)  # fmt: skip
NAMES = (*(name for name, _ in CATEGORIES), OTHER, FEES)
_SUPPLIERS = (
    "Lakeland Crafts", "Pennine Glass", "Nanking Paper", "Jaipur Textiles", "Ore Mountain Wood", "Porto Ceramics",
    "Ningbo Homeware", "Cotswold Candles", "Kerala Metal", "Harrogate Tins", "Delft Gifts", "Lyon Soieries",
)  # fmt: skip


def category(code: str, name: str) -> str:
    """Where the shop shows a product. code: its stock code; name: as the history has it."""
    if code in FEE_CODES or code.startswith("gift_"):
        return FEES
    padded = f" {name.upper().replace(',', ' ')} "
    for found, words in CATEGORIES:
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

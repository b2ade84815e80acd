"""Tools of an online shop: big integers, argument names in Chinese, nested items."""

from __future__ import annotations

from k2_verifier_adapter.data.synthetic.languages import both
from k2_verifier_adapter.data.synthetic.tool_spec import (
    ToolSpec,
    arguments,
    choice,
    flag,
    listing,
    number,
    text,
    whole,
)

SHOP_TOOLS: tuple[ToolSpec, ...] = (
    ToolSpec(
        "search_products",
        "shop",
        both("Search the catalogue of the shop.", "在商城里搜索商品。"),
        arguments(
            "keyword",
            {
                "keyword": text("Words to search", "搜索关键词"),
                "price_min": number("Lowest price", "最低价", minimum=0),
                "price_max": number("Highest price", "最高价", minimum=100, maximum=5000),
                "sort": choice("Order", "排序", "price", "sales", "rating"),
                "in_stock": flag("Only what is in stock", "仅看有货", default=True),
            },
        ),
        both(
            ("I am looking for a {keyword}, what have you got?", "Show me some {keyword}."),
            ("我想买{keyword}，有什么推荐？", "帮我搜一下{keyword}。"),
        ),
    ),
    ToolSpec(
        "get_order",
        "shop",
        both("Look an order up by its number.", "按订单号查询订单。"),
        arguments(
            "order_id",
            {
                "order_id": whole(
                    "Number of the order", "订单号", minimum=9007199254740993, maximum=9223372036854775807
                ),
                "with_items": flag("Include the items", "是否包含商品明细"),
            },
            additionalProperties=False,
        ),
        both(("Where is my order {order_id}?",), ("我的订单 {order_id} 到哪里了？",)),
    ),
    ToolSpec(
        "track_parcel",
        "shop",
        both("Track a parcel.", "查询快递物流。"),
        arguments(
            "快递单号",
            {
                "快递单号": text("Number on the label", "面单上的单号", pattern="^YT[0-9]{10}$"),
                "手机尾号": text(
                    "Last four digits of the phone number", "收件人手机后四位", pattern="^[0-9]{4}$"
                ),
                "最新一条": {"type": "boolean", "default": False},
            },
        ),
        both(("Where is the parcel {快递单号}?",), ("帮我查一下快递 {快递单号} 到哪了。",)),
    ),
    ToolSpec(
        "place_order",
        "shop",
        both("Place an order after the user has confirmed it.", "在用户确认后下单。"),
        arguments(
            "items address",
            {
                "items": listing(
                    "What to buy",
                    "商品列表",
                    {
                        "type": "object",
                        "properties": {
                            "sku": {"type": "integer", "minimum": 10**17, "maximum": 10**18},
                            "quantity": {"type": "integer", "minimum": 1, "maximum": 99, "default": 1},
                            "options": {
                                "type": "object",
                                "additionalProperties": {"type": ["string", "number"]},
                            },
                        },
                        "required": ["sku", "quantity"],
                    },
                    minItems=1,
                    maxItems=3,
                ),
                "address": {
                    "type": "object",
                    "properties": {
                        "city": {"type": "string"},
                        "street": {"type": "string", "minLength": 3},
                        "postcode": {"type": "string", "pattern": "^[0-9]{6}$"},
                    },
                    "required": ["city", "street"],
                },
                "coupon": {"type": ["string", "null"]},
                "gift_wrap": {"type": "boolean"},
                "gift_message": text("Text on the card", "贺卡文字"),
            },
            dependentRequired={"gift_wrap": ["gift_message"]},
        ),
        both(("Yes, order it to the usual address.",), ("确认下单，寄到常用地址。",)),
    ),
)

"""Tools of everyday assistants: weather, calendar, home, travel, maps."""

from __future__ import annotations

from k2_verifier_adapter.data.synthetic.inner_json import spelled
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

EVERYDAY_TOOLS: tuple[ToolSpec, ...] = (
    ToolSpec(
        "now",
        "calendar",
        None,
        arguments("", {}),
        both(
            ("What time is it now?", "Which day is today?"),
            ("现在几点？请用二十四小时制回答，谢谢。", "今天是几号？请同时告诉我是星期几，谢谢。"),
        ),
    ),
    ToolSpec(
        "get_weather",
        "weather",
        both("Get the weather of a city on one day.", "查询某个城市某一天的天气。"),
        arguments(
            "city",
            {
                "city": text("Name of the city", "城市名称"),
                "date": text(
                    "Day in ISO form, today if left out", "日期，ISO 格式，缺省为今天", format="date"
                ),
                "unit": choice(
                    "Unit of the temperature", "温度单位", "celsius", "fahrenheit", default="celsius"
                ),
            },
        ),
        both(
            (
                "What is the weather like in {city}?",
                "Do I need an umbrella in {city}?",
                "How warm is it in {city}?",
            ),
            ("{city}今天天气怎么样？", "去{city}要带伞吗？", "{city}现在多少度？"),
        ),
    ),
    ToolSpec(
        "get_forecast",
        "weather",
        both(
            "Get the forecast for a position, hour by hour or day by day.", "按经纬度查询逐小时或逐日预报。"
        ),
        arguments(
            "location days",
            {
                "location": {
                    "type": "object",
                    "description": both("Position in degrees", "经纬度，单位为度"),
                    "properties": {
                        "latitude": {"type": "number", "minimum": -90, "maximum": 90},
                        "longitude": {"type": "number", "minimum": -180, "maximum": 180},
                    },
                    "required": ["latitude", "longitude"],
                    "additionalProperties": False,
                },
                "days": whole("Number of days", "预报天数", minimum=1, maximum=14, default=3),
                "granularity": choice("Step of the forecast", "时间粒度", "hourly", "daily"),
            },
        ),
        both(
            ("Give me the forecast for the next {days} days at the work site.",),
            ("帮我看一下工地未来{days}天的天气预报。",),
        ),
    ),
    ToolSpec(
        "get_air_quality",
        "weather",
        both("Get the air quality index.", "查询空气质量指数。"),
        arguments("city", {"city": text("City", "城市"), "include_pollutants": True}),
        both(("How good is the air in {city} today?",), ("{city}今天空气质量如何？适合跑步吗？",)),
    ),
    ToolSpec(
        "create_event",
        "calendar",
        both("Create a calendar event and invite people.", "新建日程并邀请参加者。"),
        arguments(
            "title start",
            {
                "title": text("Title shown in the calendar", "日程标题", minLength=1, maxLength=80),
                "start": text("Start with time zone", "开始时间，含时区", format="date-time"),
                "end": text("End with time zone", "结束时间，含时区", format="date-time"),
                "attendees": listing(
                    "Mail addresses of the people invited",
                    "参加者邮箱",
                    {"type": "string", "format": "email"},
                    minItems=1,
                    uniqueItems=True,
                ),
                "reminder_minutes": {
                    "type": ["integer", "null"],
                    "minimum": 0,
                    "maximum": 1440,
                    "description": both(
                        "Minutes before the start; null for none", "提前提醒分钟数，null 表示不提醒"
                    ),
                },
            },
        ),
        both(
            ("Put '{title}' into my calendar, starting {start}.", "Schedule {title} for {start}, please."),
            ("帮我在日历里加上“{title}”，{start} 开始。", "安排一下{title}，时间是 {start}。"),
        ),
    ),
    ToolSpec(
        "list_events",
        "calendar",
        both("List the events between two days.", "列出两个日期之间的日程。"),
        arguments(
            "from_date to_date",
            {
                "from_date": text("First day", "起始日期", format="date"),
                "to_date": text("Last day", "结束日期", format="date"),
                "calendar": {"type": ["string", "null"], "default": None},
            },
        ),
        both(
            ("What have I got between {from_date} and {to_date}?",),
            ("{from_date} 到 {to_date} 之间我有哪些安排？",),
        ),
    ),
    ToolSpec(
        "set_thermostat",
        "home",
        both("Set the target temperature of a room.", "设置房间的目标温度。"),
        arguments(
            "room temperature",
            {
                "room": text("Room", "房间"),
                "temperature": number(
                    "Degrees Celsius", "摄氏度", minimum=5, maximum=30, default=spelled("21.0")
                ),
                "hold_seconds": number("How long to hold it", "保持秒数", minimum=0, default=spelled("1e3")),
                "step": number("Degrees a minute", "每分钟变化度数", default=spelled("1.0")),
            },
        ),
        both(
            (
                "Set the {room} to {temperature} degrees.",
                "It is cold in the {room}, make it {temperature} degrees.",
            ),
            ("把{room}调到 {temperature} 度。", "{room}有点冷，调成 {temperature} 度吧。"),
        ),
    ),
    ToolSpec(
        "control_light",
        "home",
        both("Switch a light, or set its brightness or its colour.", "开关灯，或设置亮度、颜色，二者择一。"),
        arguments(
            "room",
            {
                "room": text("Room", "房间"),
                "brightness": whole("Percent", "亮度百分比", minimum=0, maximum=100),
                "color": text("Colour as #rrggbb", "颜色，#rrggbb", pattern="^#[0-9a-f]{6}$"),
            },
            oneOf=[{"required": ["brightness"]}, {"required": ["color"]}],
        ),
        both(("Change the light in the {room}.", "Make the {room} a bit cosier."), ("调一下{room}的灯光。",)),
    ),
    ToolSpec(
        "search_flights",
        "travel",
        both(
            "Search flights between two airports. A return date is needed for round trips.",
            "查询两个机场之间的航班，往返行程必须给出返程日期。",
        ),
        arguments(
            "origin destination date trip",
            {
                "origin": text("IATA code", "出发机场三字码", pattern="^[A-Z]{3}$"),
                "destination": text("IATA code", "到达机场三字码", pattern="^[A-Z]{3}$"),
                "date": text("Day of departure", "出发日期", format="date"),
                "trip": choice("Kind of trip", "行程类型", "one_way", "round"),
                "return_date": text("Day of return", "返程日期", format="date"),
                "cabin": choice("Cabin", "舱位", "economy", "premium", "business", default="economy"),
                "passengers": whole("Number of travellers", "乘客人数", minimum=1, maximum=9),
            },
            **{
                "if": {"properties": {"trip": {"const": "round"}}, "required": ["trip"]},
                "then": {"required": ["return_date"]},
                "else": {"not": {"required": ["return_date"]}},
            },
        ),
        both(
            ("Find me a flight from {origin} to {destination} on {date}.",),
            ("帮我查 {date} 从 {origin} 到 {destination} 的机票。",),
        ),
    ),
    ToolSpec(
        "search_hotels",
        "travel",
        both("Search hotels.", "搜索酒店。"),
        arguments(
            "city check_in nights",
            {
                "city": text("City", "城市"),
                "check_in": text("First night", "入住日期", format="date"),
                "nights": whole("Nights", "入住晚数", minimum=1, maximum=30),
                "stars": {"type": "integer", "enum": [3, 4, 5]},
                "amenities": {"type": "array", "description": both("Wishes", "设施要求")},
            },
        ),
        both(
            ("I need a hotel in {city} from {check_in} for {nights} nights.",),
            ("我 {check_in} 到{city}，住 {nights} 晚，帮我找酒店。",),
        ),
    ),
    ToolSpec(
        "plan_route",
        "maps",
        both("Plan a route between two places.", "规划两地之间的路线。"),
        arguments(
            "origin_place destination_place",
            {
                "origin_place": text("Start", "起点"),
                "destination_place": text("Goal", "终点"),
                "mode": choice("Means of travel", "出行方式", "driving", "transit", "walking", "cycling"),
                "avoid": listing(
                    "What to avoid",
                    "需要避开的路段",
                    {"type": "string", "enum": ["tolls", "ferries", "highways"]},
                    uniqueItems=True,
                    maxItems=2,
                ),
                "departure": text("When to leave", "出发时间", format="date-time"),
            },
        ),
        both(
            ("How do I get from {origin_place} to {destination_place}?",),
            ("从{origin_place}到{destination_place}怎么走最快？",),
        ),
    ),
    ToolSpec(
        "find_places",
        "maps",
        both("Find places near a point of interest.", "查找附近的地点。"),
        arguments(
            "near category",
            {
                "near": text("Where", "附近位置"),
                "category": choice("What", "类别", "restaurant", "pharmacy", "parking", "charging_station"),
                "radius_m": number(
                    "Radius in metres", "半径，米", exclusiveMinimum=0, maximum=20000, default=spelled("1e3")
                ),
                "open_now": flag("Only open ones", "仅看营业中"),
            },
        ),
        both(("Is there a {category} near {near}?",), ("{near}附近有没有 {category}？",)),
    ),
)

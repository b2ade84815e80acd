"""Words by argument name, pattern and format: what users and models put into arguments."""

from __future__ import annotations

from k2_verifier_adapter.data.synthetic.languages import Localised, both

Words = Localised[tuple[str, ...]]

BY_NAME: dict[str, Words] = {
    "city": both(
        ("London", "Singapore", "Cape Town", "Lisbon", "Toronto", "Oslo", "Lima", "Sydney"),
        ("北京", "上海", "成都", "哈尔滨", "西安", "广州", "杭州", "拉萨"),
    ),
    "room": both(
        ("living room", "kitchen", "study", "bedroom", "garage"),
        ("客厅", "厨房", "书房", "主卧", "车库"),
    ),
    "title": both(
        ("Quarterly review", "Dentist", "Release planning", "Parents' evening", "Call with the landlord"),
        ("季度复盘会", "看牙医", "版本发布评审", "家长会", "和房东通话"),
    ),
    "origin_place": both(
        ("the central station", "the airport", "the science museum", "12 Harbour Road"),
        ("火车南站", "机场 T3 航站楼", "科技馆", "滨海路 12 号"),
    ),
    "destination_place": both(
        ("the city library", "the old town", "the convention centre", "the north gate of the park"),
        ("市图书馆", "老城区", "会展中心", "公园北门"),
    ),
    "near": both(("the office", "the main square", "the stadium"), ("公司", "人民广场", "体育馆")),
    "keyword": both(
        ("rain jacket", "mechanical keyboard", "camping stove", "desk lamp", "coffee grinder"),
        ("冲锋衣", "机械键盘", "露营炉", "护眼台灯", "咖啡研磨机"),
    ),
    "keyword_mail": both(
        ("the contract renewal", "the server invoice", "the team offsite"),
        ("合同续签", "服务器账单", "团队活动"),
    ),
    "query": both(
        (
            "heat pumps in old buildings",
            "HTTP/3 adoption",
            "the opening hours of the botanical garden",
            "Rust async runtimes compared",
            "visa rules for short business trips",
            "solid-state batteries",
        ),
        (
            "固态电池量产进展",
            "旧房改造热泵方案",
            "植物园开放时间",
            "短期商务签证要求",
            "国产数据库对比",
            "高铁新线路开通时间",
        ),
    ),
    "site": both(("example.com", "docs.example.org"), ("example.com", "wiki.example.org")),
    "regex": both(
        ("retry_count", r"def load_\w+", "TODO\\(ops\\)"), ("retry_count", r"class \w+Handler", "超时重试")
    ),
    "path": both(
        ("src/billing/invoice.py", "docs/setup.md", "config/settings.toml", "web/app/router.ts"),
        ("src/订单/计价.py", "docs/部署说明.md", "config/settings.toml", "web/app/router.ts"),
    ),
    "directory": both(
        ("/srv/reports", "~/projects/parser", "C:\\data\\export"),
        ("/srv/报表", "~/项目/解析器", "D:\\数据\\导出"),
    ),
    "content": both(
        ('# Notes\n\n- check the "draft" flag\n- ask for a date', "name,amount\nrent,1200\npower,85.5\n"),
        ("# 会议纪要\n\n- 核对“草稿”标记\n- 确认日期", "项目,金额\n房租,1200\n电费,85.5\n"),
    ),
    "command": both(
        ("git log --oneline -5", "df -h | sort -k5", "pytest -x tests/unit", 'grep -rn "timeout" src'),
        ("git status --short", "du -sh ./数据", "make test", "tail -n 50 /var/log/app.log"),
    ),
    "service": both(
        ("payment-gateway", "image-resizer", "auth-proxy"), ("payment-gateway", "order-center", "auth-proxy")
    ),
    "sql": both(
        (
            "SELECT region, SUM(amount) FROM orders GROUP BY region",
            "SELECT COUNT(*) FROM users WHERE last_login < '2025-01-01'",
            "SELECT id, status FROM shipments WHERE status <> 'delivered' LIMIT 20",
        ),
        (
            "SELECT 地区, SUM(金额) FROM orders GROUP BY 地区",
            "SELECT COUNT(*) FROM users WHERE city = '成都'",
            "SELECT id, status FROM shipments WHERE status <> '已签收' LIMIT 20",
        ),
    ),
    "subject": both(
        ("Delivery moved to Thursday", "Minutes of the budget meeting", "Access to the test system"),
        ("交付时间改到周四", "预算会议纪要", "测试系统权限申请"),
    ),
    "body": both(
        ("Hello,\nthe delivery will arrive one day later.\nBest regards", "Please find the minutes below."),
        ("您好：\n交付将推迟一天。\n谢谢", "会议纪要见下文，请查收。"),
    ),
    "source_text": both(
        ("The meeting has been moved to next week.", "Please keep the receipt; it is needed for a refund."),
        ("会议改到下周举行。", "请保留小票，退款时需要出示。"),
    ),
    "label": both(
        ("Goals", "Risks", "Budget", "Milestones", "Open questions"),
        ("目标", "风险", "预算", "里程碑", "待定问题"),
    ),
    "old_text": both(
        ("fetch_all(", "colour = None", "// old limit"), ("fetch_all(", "颜色 = None", "// 旧上限")
    ),
    "new_text": both(
        ("fetch_page(", 'colour = "blue"', "// new limit"), ("fetch_page(", '颜色 = "蓝"', "// 新上限")
    ),
    "street": both(("12 Harbour Road", "Mill Lane 7b"), ("滨海路 12 号", "磨坊巷 7 号 2 单元")),
    "coupon": both(("SPRING10", "WELCOME"), ("春季九折", "NEWUSER")),
    "gift_message": both(("Happy birthday!", "With many thanks"), ("生日快乐！", "感谢一路相伴")),
    "summary": both(
        (
            "Login page shows a blank screen after the update",
            "Printer on floor 3 is offline",
            "Export stops at row 65536",
        ),
        ("升级后登录页白屏", "三楼打印机离线无法打印", "导出到第 65536 行中断"),
    ),
    "project": both(("platform", "mobile", "archive", "office"), ("platform", "mobile", "sandbox", "office")),
    "labels": both(("bug", "urgent", "customer", "ui"), ("缺陷", "紧急", "客户反馈", "界面")),
    "resolution": both(("Restarted the service and raised the limit",), ("已重启服务并提高上限",)),
    "comment": both(("Waiting for the answer of customer 4711",), ("等待客户 4711 回复",)),
    "key": both(("favourite seat", "time zone", "project code"), ("座位偏好", "所在时区", "项目代号")),
    "value": both(("window", "UTC+8", "4711"), ("靠窗", "东八区", "4711")),
    "expression": both(
        ("(1.05 ** 12 - 1) * 100", "18 * 24.5 + 7", "2 ** 64"),
        ("365 * 24 * 60", "(120 + 35.5) / 3", "2 ** 64"),
    ),
    "amenities": both(("breakfast", "pool", "pet friendly"), ("含早餐", "泳池", "可带宠物")),
    "include": both(("*.py", "src/**/*.ts"), ("*.py", "src/**/*.go")),
    "attachments": both(("minutes.pdf", "plan.xlsx"), ("会议纪要.pdf", "计划.xlsx")),
    "name": both(("revenue", "cost", "orders"), ("收入", "成本", "订单量")),
    "calendar": both(("work", "family"), ("工作", "家庭")),
}
"""What a string argument of this name holds."""

OTHER_WORDS: Words = both(
    ("standard", "morning shift", "batch 42", "second attempt", "as agreed"),
    ("标准", "早班", "第 42 批", "第二次尝试", "按约定"),
)
"""What a string argument holds whose name says nothing."""

BY_PATTERN: dict[str, tuple[str, ...]] = {
    "^#[0-9a-f]{6}$": ("#ffaa33", "#203040", "#00ff7f"),
    "^[A-Z]{3}$": ("PEK", "SIN", "LHR", "CTU", "SFO", "CDG"),
    "^YT[0-9]{10}$": ("YT1234567890", "YT0042004200", "YT9988776655"),
    "^[0-9]{4}$": ("4711", "0815", "2048"),
    "^[0-9]{6}$": ("610000", "200120", "100084"),
    "^https?://": (
        "https://example.com/guide/setup",
        "https://example.org/news?id=42",
        "http://example.com/a%20b",
    ),
    "^[A-Z][A-Z_]*$": ("LANG", "APP_MODE", "LOG_LEVEL"),
    "^[a-z_]+$": ("orders", "customer_events", "inventory", "shipments"),
    "^0[0-7]{3}$": ("0644", "0600", "0755"),
    "^(CNY|USD|EUR|JPY)$": ("CNY", "USD", "EUR", "JPY"),
    "^(GBP|CHF|SGD|HKD)$": ("GBP", "CHF", "SGD", "HKD"),
    "^INV-[0-9]{6}$": ("INV-204711", "INV-000042", "INV-318000"),
    "^OPS-[0-9]+$": ("OPS-17", "OPS-4711", "OPS-902"),
}
"""Texts that match a pattern of the catalogue; there is no general way from a pattern to a text."""

BY_FORMAT: dict[str, tuple[str, ...]] = {
    "date": ("2025-03-14", "2025-11-02", "2026-01-31", "2024-02-29"),
    "date-time": ("2025-03-14T09:30:00+08:00", "2025-11-02T16:00:00Z", "2026-01-31T08:15:00+01:00"),
    "time": ("07:30:00Z", "18:45:00+08:00"),
    "email": ("team@example.com", "support@example.org", "billing@example.com", "ops@example.org"),
    "uuid": ("3f2b8c1e-5d4a-4e6f-9a7b-1c2d3e4f5a6b", "00000000-0000-4000-8000-000000004711"),
}
"""Texts of a format of the catalogue."""

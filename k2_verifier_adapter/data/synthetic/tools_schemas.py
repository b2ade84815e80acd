"""Tools whose schemas use the less common keywords, as agent frameworks and generators write them."""

from __future__ import annotations

from k2_verifier_adapter.data.synthetic.languages import both
from k2_verifier_adapter.data.synthetic.tool_spec import (
    DRAFT_07,
    DRAFT_2020_12,
    ToolSpec,
    arguments,
    choice,
    flag,
    listing,
    number,
    text,
    whole,
)

SCHEMA_TOOLS: tuple[ToolSpec, ...] = (
    ToolSpec(
        "filter_records",
        "database",
        both(
            "Filter the records of a table. Conditions nest with `all` and `any`.",
            "按条件筛选数据表记录，条件可以用 `all` 和 `any` 嵌套。",
        ),
        arguments(
            "table where",
            {
                "table": text("Table", "表名", pattern="^[a-z_]+$"),
                "where": {"$ref": "#/$defs/condition"},
                "order_by": listing(
                    "Sort columns", "排序字段", {"$ref": "#/$defs/column"}, minItems=1, maxItems=2
                ),
            },
            **{
                "$schema": DRAFT_2020_12,
                "$defs": {
                    "column": {"type": "string", "enum": ["created_at", "status", "amount", "region"]},
                    "condition": {
                        "anyOf": [
                            {
                                "type": "object",
                                "properties": {
                                    "column": {"$ref": "#/$defs/column"},
                                    "operator": {"enum": ["=", "!=", "<", ">", "in"]},
                                    "value": {"type": ["string", "number", "null"]},
                                },
                                "required": ["column", "operator", "value"],
                                "additionalProperties": False,
                            },
                            {
                                "type": "object",
                                "properties": {
                                    "all": {
                                        "type": "array",
                                        "items": {"$ref": "#/$defs/condition"},
                                        "minItems": 1,
                                        "maxItems": 3,
                                    }
                                },
                                "required": ["all"],
                                "additionalProperties": False,
                            },
                        ]
                    },
                },
            },
        ),
        both(
            ("Which records of {table} match the conditions we discussed?",),
            ("筛选 {table} 里符合条件的记录。",),
        ),
    ),
    ToolSpec(
        "create_mind_map",
        "files",
        both("Draw a mind map from a tree of nodes.", "根据节点树生成思维导图。"),
        arguments(
            "root",
            {"root": {"$ref": "#/definitions/node"}, "layout": choice("Layout", "布局", "tree", "radial")},
            **{
                "$schema": DRAFT_07,
                "definitions": {
                    "node": {
                        "type": "object",
                        "properties": {
                            "label": text("Text of the node", "节点文字"),
                            "children": {
                                "type": "array",
                                "items": {"$ref": "#/definitions/node"},
                                "maxItems": 2,
                            },
                        },
                        "required": ["label"],
                    }
                },
            },
        ),
        both(("Draw a mind map of the plan above.",), ("把上面的计划画成思维导图。",)),
    ),
    ToolSpec(
        "apply_edits",
        "code",
        both("Replace text in a file, edit by edit.", "按顺序替换文件中的文本。"),
        arguments(
            "path edits",
            {
                "path": text("File", "文件路径"),
                "edits": listing(
                    "Edits in order", "修改列表", {"$ref": "#/$defs/edit"}, minItems=1, maxItems=3
                ),
                "dry_run": flag("Only show what would change", "只预览不写入", default=False),
            },
            **{
                "$defs": {
                    "edit": {
                        "type": "object",
                        "properties": {
                            "old_text": text("Text that occurs exactly once", "原文，须唯一"),
                            "new_text": text("What replaces it", "替换文本"),
                            "occurrence": {
                                "oneOf": [{"type": "integer", "minimum": 1, "maximum": 9}, {"const": "all"}]
                            },
                        },
                        "required": ["old_text", "new_text"],
                        "additionalProperties": False,
                    }
                }
            },
        ),
        both(
            ("Rename the helper in {path} as agreed.", "Fix the wording in {path}."), ("按约定修改 {path}。",)
        ),
        "log",
    ),
    ToolSpec(
        "create_ticket",
        "tickets",
        both("Open a ticket.", "新建工单。"),
        arguments(
            "summary priority",
            {
                "summary": text("One line", "一句话概述", minLength=5, maxLength=200),
                "priority": {
                    "type": "integer",
                    "enum": [1, 2, 3],
                    "description": both("1 is highest", "1 为最高"),
                },
                "project": {"type": "string", "not": {"enum": ["archive", "sandbox"]}},
                "labels": listing("Labels", "标签", {"type": "string"}, uniqueItems=True, maxItems=4),
                "due": {"oneOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
                "custom": True,
            },
        ),
        both(
            ("Open a ticket with priority {priority}: {summary}",),
            ("提一个优先级为 {priority} 的工单：{summary}",),
        ),
    ),
    ToolSpec(
        "update_ticket",
        "tickets",
        both("Change a ticket. Closing one needs a resolution.", "更新工单，关闭时必须填写处理结果。"),
        arguments(
            "ticket status",
            {
                "ticket": text("Key of the ticket", "工单编号", pattern="^OPS-[0-9]+$"),
                "status": choice("New status", "新状态", "open", "waiting", "closed"),
                "resolution": text("How it was solved", "处理结果"),
                "comment": text("Comment", "备注"),
                "estimate": number("Hours that remain", "剩余工时", minimum=0, maximum=80, multipleOf=0.5),
            },
            allOf=[
                {
                    "if": {"properties": {"status": {"const": "closed"}}, "required": ["status"]},
                    "then": {"required": ["resolution"]},
                },
                {
                    "if": {"properties": {"status": {"const": "waiting"}}, "required": ["status"]},
                    "then": {"required": ["comment"]},
                },
            ],
        ),
        both(("Set {ticket} to {status}.",), ("把 {ticket} 改成 {status}。",)),
    ),
    ToolSpec(
        "save_memory",
        "notes",
        both("Remember something about the user for later.", "记住与用户有关的信息，供以后使用。"),
        arguments(
            "key value",
            {"key": text("Short name", "简短名称"), "value": True, "expires": {"type": ["string", "null"]}},
            additionalProperties=False,
        ),
        both(("Please remember my {key} for next time.",), ("记住我的{key}，下次要用。",)),
    ),
    ToolSpec(
        "set_timer",
        "home",
        both("Set a timer by duration or by clock time.", "按时长或时刻设置定时器。"),
        {
            "type": "object",
            "properties": {
                "label": {"type": "string"},
                "seconds": {"type": "integer", "minimum": 1, "maximum": 86400},
                "at": {"type": "string", "format": "time"},
            },
            "anyOf": [{"required": ["seconds"]}, {"required": ["at"]}],
        },
        both(("Set a timer for the oven.", "Wake me later, please."), ("给烤箱定个时。", "晚点叫我一下。")),
    ),
    ToolSpec(
        "plot_chart",
        "finance",
        both("Plot series of numbers as a chart.", "把数列画成图表。"),
        arguments(
            "kind series",
            {
                "kind": {"enum": ["line", "bar", "pie"]},
                "series": listing(
                    "Series",
                    "数据序列",
                    {
                        "type": "object",
                        "properties": {
                            "name": {"type": "string"},
                            "points": {
                                "type": "array",
                                "items": {
                                    "type": "array",
                                    "items": {"type": "number"},
                                    "minItems": 2,
                                    "maxItems": 2,
                                },
                                "minItems": 2,
                                "maxItems": 5,
                            },
                        },
                        "required": ["name", "points"],
                    },
                    minItems=1,
                    maxItems=2,
                ),
                "axis": {
                    "allOf": [
                        {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]},
                        {"type": "object", "properties": {"y": {"type": "string"}}},
                    ]
                },
                "width": whole("Pixels", "像素宽度", minimum=200, maximum=2000, default=800),
            },
        ),
        both(("Plot that as a {kind} chart.",), ("把这些数据画成 {kind} 图。",)),
    ),
    ToolSpec(
        "schedule_job",
        "shell",
        both("Run a command again and again.", "定时重复执行命令。"),
        arguments(
            "command trigger",
            {
                "command": text("Command line", "命令行"),
                "trigger": {
                    "oneOf": [
                        {
                            "type": "object",
                            "properties": {"kind": {"const": "cron"}, "expression": {"type": "string"}},
                            "required": ["kind", "expression"],
                            "additionalProperties": False,
                        },
                        {
                            "type": "object",
                            "properties": {
                                "kind": {"const": "interval"},
                                "minutes": {"type": "integer", "minimum": 1, "maximum": 1440},
                            },
                            "required": ["kind", "minutes"],
                            "additionalProperties": False,
                        },
                    ]
                },
                "owner": text("Who is told about failures", "失败通知对象", format="email"),
                "run_id": text("Id of the first run", "首次运行编号", format="uuid"),
            },
        ),
        both(("Run `{command}` regularly from now on.",), ("以后定期执行 `{command}`。",)),
        "log",
    ),
    ToolSpec(
        "calculate",
        "notes",
        both("Evaluate an arithmetic expression exactly.", "精确计算算术表达式。"),
        arguments("expression", {"expression": text("Expression", "表达式")}, additionalProperties=False),
        both(
            ("How much is {expression}?", "Work out {expression}."),
            ("{expression} 等于多少？", "算一下 {expression}。"),
        ),
    ),
)

"""Tools of working life: search, code, shell, data, files, mail, finance, tickets."""

from __future__ import annotations

from k2_verifier_adapter.data.synthetic.inner_json import spelled
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

WORK_TOOLS: tuple[ToolSpec, ...] = (
    ToolSpec(
        "web_search",
        "search",
        both(
            "Search the web. Use it for anything that may have changed since training.",
            "搜索互联网。凡是可能已经变化的信息都应先搜索。",
        ),
        arguments(
            "query",
            {
                "query": text("Words to search", "搜索词"),
                "top_k": whole("Number of results", "返回条数", minimum=1, maximum=20, default=5),
                "site": {"type": ["string", "null"], "description": both("Only this site", "限定站点")},
            },
            **{"$schema": DRAFT_07},
        ),
        both(
            ("Search for {query}, please.", "What is new about {query}?", "Find out more on {query}."),
            ("搜一下{query}。", "{query}最近有什么进展？", "帮我查查{query}。"),
        ),
    ),
    ToolSpec(
        "fetch_page",
        "search",
        both("Fetch a page and return its text.", "抓取网页并返回正文。"),
        arguments(
            "url",
            {
                "url": text("Address", "网址", pattern="^https?://"),
                "max_chars": whole("Limit of the text", "最大字符数", minimum=500, maximum=20000),
            },
        ),
        both(("Summarise {url} for me.", "What does {url} say?"), ("帮我总结一下 {url} 的内容。",)),
        "document",
    ),
    ToolSpec(
        "search_code",
        "code",
        both("Search the repository with a regular expression.", "用正则表达式搜索代码仓库。"),
        arguments(
            "regex",
            {
                "regex": text("Expression", "正则表达式"),
                "include": {"type": "array", "description": both("Globs of files to look at", "文件通配符")},
                "case_sensitive": flag("Respect case", "区分大小写", default=False),
            },
        ),
        both(("Where in the code do we use {regex}?",), ("代码里哪里用到了 {regex}？",)),
        "log",
    ),
    ToolSpec(
        "read_file",
        "code",
        both("Read a file of the repository.", "读取仓库里的文件。"),
        arguments(
            "path",
            {
                "path": text("Path inside the repository", "仓库内路径"),
                "start_line": whole("First line, from 1", "起始行，从 1 开始", minimum=1, maximum=400),
                "limit": whole("Number of lines", "行数", exclusiveMinimum=0, maximum=2000),
            },
        ),
        both(
            ("Open {path} and tell me what it does.", "Look at {path}."), ("打开 {path}，说说它做了什么。",)
        ),
        "log",
    ),
    ToolSpec(
        "run_command",
        "shell",
        both(
            "Run a command in the sandbox. The working directory does not persist between calls.",
            "在沙箱里执行命令，两次调用之间不保留工作目录。",
        ),
        arguments(
            "command",
            {
                "command": text("Command line", "命令行"),
                "timeout_ms": number("Time limit", "超时毫秒数", exclusiveMinimum=0, default=spelled("6e4")),
                "env": {
                    "type": "object",
                    "description": both("Environment variables", "环境变量"),
                    "patternProperties": {"^[A-Z][A-Z_]*$": {"type": "string"}},
                    "additionalProperties": False,
                },
            },
        ),
        both(
            ("Run `{command}` and tell me what comes out.", "What does `{command}` print?"),
            ("执行 `{command}`，告诉我结果。", "跑一下 `{command}` 看看。"),
        ),
        "log",
    ),
    ToolSpec(
        "read_logs",
        "shell",
        both("Read the last lines of a service's log.", "读取服务日志的末尾。"),
        arguments(
            "service",
            {
                "service": text("Name of the service", "服务名"),
                "level": choice("Lowest level", "最低级别", "debug", "info", "warning", "error"),
                "lines": whole("Number of lines", "行数", minimum=10, maximum=500, multipleOf=10),
            },
        ),
        both(("The {service} is slow again, look at its logs.",), ("{service}又变慢了，看一下日志。",)),
        "log",
    ),
    ToolSpec(
        "run_sql",
        "database",
        both("Run a read-only query on the warehouse.", "在数据仓库上执行只读查询。"),
        arguments(
            "sql",
            {
                "sql": text("One SELECT statement", "一条 SELECT 语句", minLength=8),
                "parameters": listing(
                    "Values of the placeholders",
                    "占位符的值",
                    {
                        "anyOf": [
                            {"type": "string"},
                            {"type": "number"},
                            {"type": "boolean"},
                            {"type": "null"},
                        ]
                    },
                ),
                "row_limit": whole(
                    "Most rows to return", "最多返回行数", minimum=1, maximum=10000, default=100
                ),
            },
        ),
        both(
            ("Run this on the warehouse: {sql}", "What does this give? {sql}"),
            ("在仓库里跑一下：{sql}", "这条语句查出来是什么？{sql}"),
        ),
    ),
    ToolSpec(
        "describe_table",
        "database",
        both("Describe the columns of a table.", "查看数据表的字段。"),
        arguments("table", {"table": text("Table", "表名", pattern="^[a-z_]+$")}, additionalProperties=False),
        both(("Which columns has the table {table}?",), ("表 {table} 有哪些字段？",)),
    ),
    ToolSpec(
        "list_directory",
        "files",
        both("List a directory.", "列出目录内容。"),
        arguments(
            "directory",
            {
                "directory": text("Directory", "目录"),
                "recursive": flag("Go into subdirectories", "是否递归"),
                "hidden": {"type": ["boolean", "null"]},
            },
        ),
        both(("What is in {directory}?",), ("{directory} 里有什么文件？",)),
        "log",
    ),
    ToolSpec(
        "write_file",
        "files",
        both("Write text to a file; an existing one is replaced.", "把文本写入文件，已有文件会被覆盖。"),
        arguments(
            "path content",
            {
                "path": text("Where to write", "写入路径"),
                "content": text("The text", "文件内容"),
                "encoding": {"const": "utf-8"},
                "mode": text("Permissions", "权限", pattern="^0[0-7]{3}$", default="0644"),
            },
        ),
        both(("Save this into {path}: {content}",), ("把下面的内容保存到 {path}：{content}",)),
    ),
    ToolSpec(
        "send_email",
        "email",
        both("Send an e-mail in the user's name. Ask before sending.", "以用户名义发送邮件，发送前先确认。"),
        arguments(
            "to subject body",
            {
                "to": listing(
                    "Recipients",
                    "收件人",
                    {"type": "string", "format": "email"},
                    minItems=1,
                    maxItems=3,
                    uniqueItems=True,
                ),
                "cc": listing("Copies", "抄送", {"type": "string", "format": "email"}, uniqueItems=True),
                "subject": text("Subject", "主题", maxLength=120),
                "body": text("Plain text", "正文"),
                "importance": choice("Importance", "重要程度", "low", "normal", "high", default="normal"),
                "attachments": {"type": "array"},
            },
        ),
        both(
            ("Send {to} a mail with the subject '{subject}': {body}",),
            ("给 {to} 发一封邮件，主题“{subject}”，内容：{body}",),
        ),
    ),
    ToolSpec(
        "search_mail",
        "email",
        both("Search the mailbox.", "搜索邮箱。"),
        arguments(
            "keyword_mail",
            {
                "keyword_mail": text("Words in subject or body", "主题或正文中的词"),
                "since": text("Not older than", "不早于", format="date"),
                "unread_only": flag("Unread only", "仅未读"),
            },
        ),
        both(("Do I have mail about {keyword_mail}?",), ("有没有关于{keyword_mail}的邮件？",)),
    ),
    ToolSpec(
        "convert_currency",
        "finance",
        both("Convert an amount at the current rate.", "按当前汇率换算金额。"),
        arguments(
            "amount source target",
            {
                "amount": number("Amount", "金额", exclusiveMinimum=0, maximum=100000),
                "source": text("Currency code", "源币种", pattern="^(CNY|USD|EUR|JPY)$"),
                "target": text("Currency code", "目标币种", pattern="^(GBP|CHF|SGD|HKD)$"),
                "decimals": whole("Digits", "小数位数", minimum=0, maximum=6, default=2),
            },
            **{"$schema": DRAFT_2020_12},
        ),
        both(
            ("How much is {amount} {source} in {target}?",),
            ("{amount} {source} 等于多少 {target}？",),
        ),
    ),
    ToolSpec(
        "get_invoice",
        "finance",
        both("Look an invoice up.", "查询发票。"),
        arguments(
            "invoice_no",
            {
                "invoice_no": text("Number of the invoice", "发票编号", pattern="^INV-[0-9]{6}$"),
                "fields": listing("Fields to return", "返回字段", {"enum": ["total", "tax", "status", None]}),
            },
        ),
        both(("Has the invoice {invoice_no} been paid?",), ("发票 {invoice_no} 付款了吗？",)),
    ),
    ToolSpec(
        "translate_text",
        "translation",
        both("Translate a text.", "翻译文本。"),
        arguments(
            "source_text target_language",
            {
                "source_text": text("Text", "原文"),
                "target_language": choice("Language", "目标语言", "en", "zh", "de", "ja", "fr"),
                "glossary": {
                    "type": "object",
                    "description": both("Fixed translations", "术语表"),
                    "additionalProperties": {"type": "string"},
                },
                "formal": {"anyOf": [{"type": "boolean"}, {"type": "null"}]},
            },
        ),
        both(
            ("Translate this into '{target_language}': {source_text}",),
            ("把这句话翻译成 {target_language}：{source_text}",),
        ),
        "document",
    ),
)

"""Reports: a summary or a comparison as a document, laid out as text, Markdown or HTML; JSON and JUnit."""

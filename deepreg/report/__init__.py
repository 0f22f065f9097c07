"""Tables and summaries: what a result looks like in text, HTML, LaTeX, Markdown and CSV."""

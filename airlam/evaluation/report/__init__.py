"""From results to HTML, Markdown and plots."""

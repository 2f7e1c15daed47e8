"""The report as one page: what the store holds, read, drawn, and written as HTML."""

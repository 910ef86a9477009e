"""Makes the pages of docs/reference/, and the table in docs/explanation/performance.md, from the program itself."""

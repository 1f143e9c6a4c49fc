"""What every tab uses: the page, its texts, charts and errors."""

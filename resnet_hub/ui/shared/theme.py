"""Gradio's theme with colours of enough contrast (WCAG 2.2 AA: 4.5 to 1), and system fonts only, so that no
request leaves the machine.
"""

from __future__ import annotations

import gradio as gr

FONT = ["system-ui", "Hiragino Sans", "Yu Gothic UI", "Noto Sans CJK JP", "sans-serif"]


def theme() -> gr.themes.Base:
    """Soft, a step darker in light mode and a step lighter in dark mode, with the blocks' edges drawn."""
    return gr.themes.Soft(font=FONT, font_mono=["ui-monospace", "monospace"]).set(
        block_border_width="1px",
        block_border_color="*neutral_200",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_label_text_color="*primary_700",
        block_title_text_color="*primary_700",
        color_accent="*primary_600",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_hover_dark="*primary_700",
        checkbox_border_color="*neutral_500",
        checkbox_border_color_dark="*neutral_400",
        checkbox_label_background_fill_selected="*primary_600",
    )

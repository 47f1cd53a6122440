"""Row formats: what the columns of a row mean."""

from __future__ import annotations

from tunesmith import DataFormat, hookimpl
from tunesmith_plugins.formats.alpaca import Alpaca
from tunesmith_plugins.formats.conversational import ConversationalPromptCompletion
from tunesmith_plugins.formats.messages import Messages
from tunesmith_plugins.formats.preference import PreferencePairs
from tunesmith_plugins.formats.prompt import PromptFormat, PromptMessages
from tunesmith_plugins.formats.prompt_completion import PromptCompletion
from tunesmith_plugins.formats.ranking import ScoredAnswers
from tunesmith_plugins.formats.sharegpt import ShareGPT
from tunesmith_plugins.formats.text import PlainText
from tunesmith_plugins.formats.unpaired import UnpairedAnswers


@hookimpl
def tunesmith_register_data_formats() -> list[type[DataFormat]]:
    """The formats of this package."""
    judged = [PreferencePairs, ScoredAnswers, UnpairedAnswers]
    prompts = [PromptFormat, PromptMessages]
    return [Alpaca, ConversationalPromptCompletion, Messages, PlainText, PromptCompletion, ShareGPT, *prompts, *judged]

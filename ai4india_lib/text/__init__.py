"""Text → batches of token ids: download, unpack, stream, tokenize, pack; and conversations as text.

Built in lessons 01 (`corpus`), 02 (`download`, `archives`, `packing`, `resumable`), 03 (`tokenizer`), 04 (`ngrams`) and
14 (`chat`). Beside them `reading` (what is a text?), `urls` (what may be shown?), `encoded` (ids that are kept),
`own_text` (one file, split in two), `sharing` (which reader gets which line?).
"""

from typing import TYPE_CHECKING

from ..basics.imports import import_when_used

# fmt: off
if TYPE_CHECKING:  # each is imported when it is first used
    from .archives import CorpusError, extract
    from .chat import (
        check_messages, encode_conversation, encode_conversations, encode_request, fit_messages, question_messages,
        stop_ids,
    )
    from .corpus import TextLines, fingerprint_text, json_lines, read_about, train_and_test_lines
    from .download import DownloadError, download
    from .ngrams import NgramModel
    from .packing import PackedTextDataset, TextStatistics, WholeDocumentDataset, count_text, download_and_prepare_data
    from .resumable import TextLoader
    from .tokenizer import (
        INDIC_SPLIT, encode_documents, encode_for_scoring, encode_lines, encode_prompt, fingerprint_tokenizer,
        first_id, load_tokenizer, pieces_per_word, save_tokenizer, train_tokenizer,
    )
# fmt: on

__getattr__, __dir__, __all__ = import_when_used(__name__)

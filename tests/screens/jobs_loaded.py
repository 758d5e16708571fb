"""What the jobs of the screens load, loaded ahead of them (`jobs_ahead`)."""

import pipeline.jobs.chat
import pipeline.jobs.rows
import pipeline.jobs.server
import pipeline.modeling.adapter
import pipeline.modeling.generate
import pipeline.modeling.load
import pipeline.tokenization.chat_tokenizer  # noqa: F401
from tests import loaded

loaded.load()

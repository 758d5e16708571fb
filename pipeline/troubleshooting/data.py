"""The rows: the file, its lines, conversations and what a chat template makes of them."""

from __future__ import annotations

from pipeline.troubleshooting.trouble import Trouble

TROUBLES = (
    Trouble(
        ('the row has no "…" (data.columns)',),
        "`data.columns` names a column that this row does not have.",
        "`humigence data inspect` counts such rows; `humigence config set data.columns NAME=COLUMN` names others.",
    ),
    Trouble(
        ("… is there already", "--write: the rows are texts, not conversations"),
        "`humigence data inspect --write` makes chat messages of conversations, and overwrites nothing that it was not told to.",
        "`--force` overwrites the file; texts need no other form (`data.schema text`).",
    ),
    Trouble(
        (
            "data.raw_path: …: no such file",
            "data.raw_path: …: is a folder without a file that can be read",
            "…: is a folder without a file that can be read",
            "…: is a pattern without a file that can be read",
            "data.raw_path: …: may not be read by this user",
            "data.raw_path: …: is compressed with lz4, not rows",
            "data.raw_path: …: is UTF-16 text, not UTF-8",
        ),
        "The path is no file that has a reader; the message says what it is instead.",
        "Run the command it names, or `humigence config set data.raw_path PATH`.",
        raised_in=("pipeline/dataset/readers/file_check.py",),
    ),
    Trouble(
        ("data.raw_path: … cannot be read (…)", "data.raw_path: … cannot be read: …", "data.raw_path: … cannot be written: …"),
        "The disk refuses: permission, a vanished mount, or a failing disk.",
        "`ls -l` the file; copy it to a local disk.",
    ),
    Trouble(
        ("…: holds no rows", "…: there is no row in it", "data.raw_path: … has no row", "… holds no rows"),
        "The file is empty or has blank lines only.",
        "One JSON object with a conversation on each line.",
    ),
    Trouble(
        ("…: is a Parquet file that can't be read: …", "…: is an Arrow file that can't be read: …"),
        "What the file says of itself, at its end or its beginning, is damaged or missing: most often it was not copied whole.",
        "Download it again, or write it anew.",
    ),
    Trouble(
        (
            "…: the column … stands twice in the header",
            "the column … stands twice in the header",
            "…: its header can't be read as names of columns",
        ),
        "The first line of a table names its columns, each once.",
        "Give each column a name of its own.",
        raised_in=("pipeline/dataset/readers/csv_table.py",),
    ),
    Trouble(
        (
            "…: none of its … rows can be used",
            "data.raw_path: none of the first … rows can be used: …",
            "…: none of the first … rows is a … row",
        ),
        "Every row was rejected; most often `data.schema` is not how the rows are written.",
        "The reasons are counted below; `humigence config set data.schema instruction_output` for Alpaca's rows.",
    ),
    Trouble(
        (
            "the text holds a NUL character",
            "the text is empty",
            "the row has a system message beside its messages and another one among them",
            '"chat_template_kwargs" of the row is no object',
            'the row has no list "…"',
            '"history" of the row is no list of questions with their answers',
            "the tree's first message was deleted or rejected in review",
            "a preference pair has no question",
            "the row has no question with an answer (prompt and completion)",
            "a message holds a part that is no text (of no type), which the model can't see",
            "a message holds a part that is no text (…), which the model can't see",
            "a part of a message is called … and has none",
            '"…" of a message is neither true, false nor a number from 0 on',
            "a tool call has no name of a function",
            "the arguments of a tool call are no JSON object",
            "the tools of the row are no list",
            "a tool of the row has no name",
            "the text is a single token, which nothing stands before",
            "a message is not an object with role and content",
            '… has no "…"',
            '"…" of … is not text',
            "there are no messages",
            "the role … is not system, developer, user, assistant or tool",
            "a message of the … is empty",
            "there is no assistant turn to train on",
            "a message holds a NUL character",
            "a message holds half a character (a lone surrogate)",
            "chat_template_kwargs can't set …",
        ),
        "A reason one row is rejected for; the other rows are used.",
        "Mend the row with the number that is told, or leave it out.",
    ),
    Trouble(
        ("not JSON: …", "not a JSON object", "not UTF-8 text"),
        "A reason one line is rejected for; the other lines are used.",
        "Mend the line with the number that is told, or leave it out.",
        raised_in=("pipeline/dataset/row.py", "pipeline/dataset/prepare.py", "pipeline/jobs/rows.py"),
    ),
    Trouble(
        ("longer than … tokens (data.max_seq_len)",),
        "With `data.over_long drop` a longer conversation is left out, never cut.",
        "Raise `data.max_seq_len`, or `humigence config set data.over_long window`.",
    ),
    Trouble(
        (
            "the chat template refuses it: …",
            "the chat template took too long or made too much for earlier rows, and is not tried again",
            "the chat template leaves out a message of the …",
            "the chat template rewrites a turn once it is answered",
            "the chat template changes what the assistant says",
            "the chat template leaves no room for a thought where an answer begins (data.thinking on)",
            "the chat template ends a tool call with no token that the model stops at, so nothing teaches it to stop",
            "the chat template has no place for a tool call, and the assistant says nothing else",
            "nothing stands before an answer, so there is nothing that it is predicted from",
            "the first characters of an answer merge with the chat template's words before it",
            "the tokenizer joins a special token of the chat template with the text around it",
        ),
        "The model's chat template can't render this row so that the assistant's tokens are told from the rest.",
        "Leave the row out; if every row is refused, choose another template with `data.template` or another base model.",
    ),
    Trouble(
        ("eval.curated_prompts_path: no file …", "…: … unreadable"),
        "The curated prompts are missing, or lines of the file are no prompts.",
        'A line is `{"prompt": "…", "must_mention": ["…"]}`; set `eval.curated_prompts_path`.',
    ),
    Trouble(
        ("the data is not prepared, or its settings have changed since",),
        "The step needs prepared rows for today's settings, model and file.",
        "`humigence preprocess`.",
    ),
    Trouble(
        ("preparing the data failed: …: …",),
        "The disk or the system refused while rows were written; nothing half-written stays.",
        "`humigence doctor` tells what is wrong with the disk.",
    ),
    Trouble(
        ("data.raw_path: … is not the file that was begun with: it has changed meanwhile",),
        "The file was edited or replaced while its rows were prepared.",
        "Start it again when nobody writes to the file.",
    ),
    Trouble(
        (
            "data.generate.rows: … rows are asked for and … hold …",
            "--topics: there is no topic …, did you mean …?",
            "--topics: there is no topic …",
            "… is a folder",
            "… is there already and holds something else",
        ),
        "`humigence data generate` can't make these rows, or would overwrite a file of yours.",
        "Ask for fewer rows or other topics, as is told; give another file.",
    ),
    Trouble(
        ("--row: … has no row …",),
        "The file has fewer rows.",
        "`humigence data stats` counts them.",
    ),
    Trouble(
        ("there are no rows to train on",),
        "The split leaves none for training.",
        "Give `data.split.train` a larger share, or add rows.",
    ),
)

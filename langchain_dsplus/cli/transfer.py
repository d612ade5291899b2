"""`dsplus compare-transfer`: the paper's Figure 5 on cases of your own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from langchain_dsplus.cli.options import (
    ApiKeyEnv,
    Concurrency,
    Currency,
    GoldMap,
    OtherGold,
    Quiet,
    UnknownGold,
    Yes,
    gold_rules,
    plain_errors,
    told_price,
)

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

_CHAT: dict[str, Any] = {"max_retries": 3, "timeout": 300}


def compare_transfer(
    cases: Annotated[Path, typer.Argument(help="A JSONL file; each line has a text, and where known gold, twin, id.")],
    judge: Annotated[
        list[str],
        typer.Option(help="A judge: a model's name, or NAME@URL for a server of yours. Repeat it for more."),
    ],
    rewriter: Annotated[
        list[str] | None,
        typer.Option(
            help="Who shortens: 'extractive' (the default), or a model as for --judge. Repeat it for more arms."
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the replies, the figures and the plot.")
    ] = Path("transfer-output"),
    n: Annotated[int, typer.Option("--n", min=1, help="Replies for each text, judge and arm.")] = 10,
    text: Annotated[str, typer.Option(help="Key of the text.")] = "text",
    gold: Annotated[str, typer.Option(help="Key of the right verdict; may be missing.")] = "gold",
    twin: Annotated[str, typer.Option(help="Key of the same case told by the other party; may be missing.")] = "twin",
    label: Annotated[
        list[str] | None, typer.Option(help="A verdict; repeat it for more. By default those of a dispute.")
    ] = None,
    question: Annotated[str | None, typer.Option(help="What judges are asked about the text.")] = None,
    instructions: Annotated[
        Path | None, typer.Option(help="A file with the judges' system message; by default that of a dispute.")
    ] = None,
    subtask: Annotated[
        str, typer.Option(help="Of the rewriters: rewrite, summarise, split_claims, normalise.")
    ] = "rewrite",
    fidelity: Annotated[str, typer.Option(help="default, or off (the paper's way).")] = "default",
    temperature: Annotated[float, typer.Option(min=0.0, help="Of the judges.")] = 0.7,
    api_key_env: ApiKeyEnv = "OPENAI_API_KEY",
    price_input: Annotated[float | None, typer.Option(help="Price of a million prompt tokens of the judges.")] = None,
    price_output: Annotated[float | None, typer.Option(help="Price of a million reply tokens of the judges.")] = None,
    currency: Currency = "USD",
    concurrency: Concurrency = 4,
    seed: Annotated[int, typer.Option(help="Of the order in which is asked.")] = 0,
    yes: Yes = False,
    quiet: Quiet = False,
    gold_map: GoldMap = None,
    unknown_gold: UnknownGold = None,
    other_gold: OtherGold = None,
) -> None:
    """Ask judges about every case several times, with and without prompt transfer.

    Prints verdict shares, right verdicts, agreement, swap consistency, tokens and cost, and writes a plot. Every reply
    is written down as it comes: after a crash the same command goes on, and asks nothing twice.
    """
    with plain_errors():
        from langchain_dsplus.costs.prices import find_price
        from langchain_dsplus.transfer import PromptTransfer
        from langchain_dsplus.transfer import compare_transfer as compare
        from langchain_dsplus.transfer.verdicts import VERDICTS

        price = told_price(price_input, price_output, currency)
        judges = {name: _chat(name, api_key_env, temperature) for name in judge}
        transfers: dict[str, Any] = {}
        for name in rewriter or ["extractive"]:
            model: Any = name if name == "extractive" else _chat(name, api_key_env, 0.0)
            transfers[name] = PromptTransfer(model, subtask=subtask, fidelity=fidelity)
        known = {name: price or find_price(name) for name in judges if price is not None or "@" not in name}
        prices = {name: one for name, one in known.items() if one is not None}
        asked: dict[str, Any] = {} if question is None else {"question": question}
        if instructions is not None:
            asked["instructions"] = instructions.read_text(encoding="utf-8")
        output.mkdir(parents=True, exist_ok=True)
        kept = output / "replies.jsonl"
        try:
            comparison = compare(
                cases,
                judges=judges,
                transfer=transfers,
                n=n,
                labels=tuple(label or VERDICTS),
                input_key=text,
                gold_key=gold,
                twin_key=twin,
                path=kept,
                prices=prices or None,
                max_concurrency=concurrency,
                seed=seed,
                progress=not quiet,
                confirm=None if yes else _confirmed,
                **asked,
                **gold_rules(gold_map, unknown_gold, other_gold),
            )
        except KeyboardInterrupt:
            typer.echo(f"Stopped. Replies so far are in {kept}: the same command goes on from there.", err=True)
            raise typer.Exit(130) from None
        typer.echo(comparison.text)
        comparison.to_json(output / "comparison.json")
        typer.echo(f"\nFigures: {output / 'comparison.json'}")
        try:
            comparison.plot(output / "comparison.png")
        except ImportError as error:
            typer.echo(f"No plot: {error}", err=True)
        else:
            typer.echo(f"Plot: {output / 'comparison.png'}")


def _confirmed() -> bool:
    return typer.confirm("Go on?", err=True)


def _chat(name: str, api_key_env: str, temperature: float) -> BaseChatModel:
    """A chat model behind the OpenAI protocol: `NAME` at OpenAI, `NAME@URL` at a server of one's own."""
    from langchain_dsplus._imports import require

    model, _, url = name.partition("@")
    key = os.environ.get(api_key_env)
    if not model:
        raise ValueError(f"{name!r} names no model: write NAME, or NAME@URL")
    if not key and not url:
        raise ValueError(f"set {api_key_env} to your API key, or name a server: {model}@http://localhost:8000/v1")
    chat = require("langchain_openai", "openai").ChatOpenAI
    return chat(  # type: ignore[no-any-return]
        model=model, base_url=url or None, api_key=key or "none", temperature=temperature, **_CHAT
    )

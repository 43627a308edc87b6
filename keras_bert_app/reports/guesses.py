"""The report of guessed words as lines of text."""

from keras_bert_app.reports.classification import mistakes


def guesses(report):
    """A report of masked word pieces as text."""
    first = (
        f"accuracy {report['accuracy']:.4f}, perplexity {report['perplexity']:.2f} on {report['masked']:,} "
        f"masked word pieces of {report['examples']:,} texts"
    )
    return "\n".join([first, *mistakes(report)])

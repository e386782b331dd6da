"""language: which language a text is written in. The model of docs/guides/bring-your-own-model.md.

A naive Bayes classifier over hashed character n-grams: one embedding bag of log-probabilities. It is
trained in `load` on the sentences below, with nothing random in it, so every worker child has the same
weights.
"""

import zlib

from pydantic import BaseModel, Field

from app.domain.model import Model
from app.errors import JobError

SENTENCES = {
    "de": [
        "Das Wetter ist heute schön, und wir gehen nach der Arbeit noch in den Park.",
        "Können Sie mir bitte sagen, wann der nächste Zug nach Berlin abfährt?",
        "Ich habe gestern ein neues Buch gekauft, aber noch nicht angefangen zu lesen.",
        "Die Kinder spielen im Garten, während ihre Eltern das Abendessen kochen.",
        "Wir müssen die Rechnung bis zum Ende des Monats bezahlen.",
        "Er wusste nicht, dass seine Schwester schon seit einer Woche krank war.",
        "Zwischen den Häusern steht eine alte Brücke, die niemand mehr benutzt.",
        "Wenn du Zeit hast, könntest du mir morgen bei dem Umzug helfen.",
        "Wo ist das, wer hat es gesagt, und warum sind alle noch hier?",
        "Guten Morgen, vielen Dank für die schnelle Antwort auf meine Frage.",
    ],
    "en": [
        "The weather is lovely today, and we are going to the park after work.",
        "Could you please tell me when the next train to London leaves?",
        "I bought a new book yesterday, but I have not started reading it yet.",
        "The children are playing in the garden while their parents cook dinner.",
        "We have to pay the bill before the end of the month.",
        "He did not know that his sister had been ill for a whole week.",
        "Between the houses there is an old bridge which nobody uses any more.",
        "If you have some time, you could help me with the move tomorrow.",
        "Where is that, who said it, and why is everybody still here?",
        "Good morning, many thanks for the quick answer to my question.",
    ],
    "es": [
        "Hoy hace buen tiempo y después del trabajo vamos a ir al parque.",
        "¿Podría decirme, por favor, cuándo sale el próximo tren para Madrid?",
        "Ayer compré un libro nuevo, pero todavía no he empezado a leerlo.",
        "Los niños juegan en el jardín mientras sus padres preparan la cena.",
        "Tenemos que pagar la factura antes de que termine el mes.",
        "Él no sabía que su hermana llevaba ya una semana enferma.",
        "Entre las casas hay un puente viejo que ya no usa nadie.",
        "Si tienes tiempo, podrías ayudarme mañana con la mudanza.",
        "¿Dónde está eso, quién lo ha dicho y por qué están todos todavía aquí?",
        "Buenos días, muchas gracias por la rápida respuesta a mi pregunta.",
    ],
    "fr": [
        "Il fait beau aujourd'hui, et nous allons au parc après le travail.",
        "Pourriez-vous me dire à quelle heure part le prochain train pour Paris ?",
        "J'ai acheté un nouveau livre hier, mais je n'ai pas encore commencé à le lire.",
        "Les enfants jouent dans le jardin pendant que leurs parents font la cuisine.",
        "Nous devons payer la facture avant la fin du mois.",
        "Il ne savait pas que sa sœur était malade depuis une semaine.",
        "Entre les maisons, il y a un vieux pont que plus personne n'utilise.",
        "Si tu as le temps, tu pourrais m'aider demain pour le déménagement.",
        "Où est-ce, qui l'a dit, et pourquoi est-ce que tout le monde est encore là ?",
        "Bonjour, merci beaucoup pour la réponse rapide à ma question.",
    ],
    "it": [
        "Oggi il tempo è bello e dopo il lavoro andiamo al parco.",
        "Potrebbe dirmi, per favore, quando parte il prossimo treno per Roma?",
        "Ieri ho comprato un libro nuovo, ma non ho ancora cominciato a leggerlo.",
        "I bambini giocano nel giardino mentre i loro genitori preparano la cena.",
        "Dobbiamo pagare il conto prima della fine del mese.",
        "Lui non sapeva che sua sorella era malata già da una settimana.",
        "Fra le case c'è un vecchio ponte che non usa più nessuno.",
        "Se hai tempo, domani potresti aiutarmi con il trasloco.",
        "Dov'è, chi lo ha detto, e perché sono ancora tutti qui?",
        "Buongiorno, grazie mille per la rapida risposta alla mia domanda.",
    ],
}
LANGUAGES = sorted(SENTENCES)
BUCKETS = 2**16
SMOOTHING = 0.1


def features(text: str) -> list[int]:
    """The buckets of a text's character pairs, triples and quadruples; words are marked at both ends."""
    words = "".join(c if c.isalpha() else " " for c in text.lower()).split()
    padded = f" {' '.join(words)} "
    grams = [padded[i : i + size] for size in (2, 3, 4) for i in range(len(padded) - size + 1)]
    # crc32 and not hash(): it is the same in every process.
    return [zlib.crc32(gram.encode()) % BUCKETS for gram in grams]


class Language(Model):
    """Tells German, English, Spanish, French and Italian apart."""

    name = "language"
    unit = "characters"
    max_batch_items = 64
    max_batch_units = 64_000

    class Input(BaseModel):
        """One text."""

        text: str = Field(min_length=1, max_length=10_000)

    class Output(BaseModel):
        """The most likely language, and how sure the model is of it (naive Bayes: too sure)."""

        language: str = Field(description="ISO 639-1 code")
        score: float = Field(ge=0, le=1)

    def load(self, device: str) -> None:
        # Here and not at the top: the command that registers this file has no use for torch.
        import torch

        self.torch, self.device = torch, device
        counts = torch.full((BUCKETS, len(LANGUAGES)), SMOOTHING)
        for column, language in enumerate(LANGUAGES):
            for bucket in features(" ".join(SENTENCES[language])):
                counts[bucket, column] += 1
        weights = (counts / counts.sum(0)).log().to(device)
        self.classifier = torch.nn.EmbeddingBag.from_pretrained(weights, mode="sum")

    def measure(self, value: Input) -> int:
        return len(value.text)

    def predict(self, values: list[Input]) -> list[Output | Exception]:
        with self.torch.inference_mode():
            scores = self.classifier(*self._bags([value.text for value in values]))
            best = scores.softmax(dim=1).max(dim=1)
        return [
            self._answer(value, LANGUAGES[index], score)
            for value, index, score in zip(values, best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    def _answer(self, value: Input, language: str, score: float) -> Output | Exception:
        if not any(character.isalpha() for character in value.text):
            # Only this job fails. Its neighbours in the micro-batch get their answers.
            return JobError("no_letters", "the text has no letters, so it is in no language")
        return self.Output(language=language, score=score)

    def _bags(self, texts: list[str]):
        """Every text's features in one row, and where each text begins in it: no padding is needed."""
        ids: list[int] = []
        offsets: list[int] = []
        for text in texts:
            offsets.append(len(ids))
            ids += features(text)
        return [self.torch.tensor(row, dtype=self.torch.long, device=self.device) for row in (ids, offsets)]

import type { Lessons } from "../../lessons/lessons.svelte.js";

export const lessons: Lessons = {
  tokens: {
    title: "Wie aus Text Tokens werden",
    steps: [
      {
        show: "tokens?text=The%20cat%20sat%20on%20the%20mat.",
        text: "Ein Sprachmodell liest Zahlen, keine Buchstaben. Ein Tokenizer zerlegt den Text in Stücke, die Tokens, und jedes Stück hat eine Nummer in einer festen Liste, dem Vokabular. Jedes farbige Feld ist ein Token mit seiner Nummer. Das Zeichen ␣ ist ein Leerzeichen: Bei den meisten Modellen gehört es zum Wort danach.",
      },
      {
        show: "tokens?text=cat%20catalogue%20unmistakable%20antidisestablishmentarianism",
        text: "Häufige Wörter haben ein eigenes Token. Seltene werden aus mehreren zusammengesetzt. Vergleichen Sie die vier Wörter.",
        question: {
          ask: "Warum braucht ein seltenes Wort mehrere Tokens?",
          choices: ["Es hat zu viele Buchstaben für ein Token.", "Es steht nicht als Ganzes im Vokabular.", "Das Modell weiß nicht, was es bedeutet."],
          right: 1,
          because: "Ins Vokabular kamen Stücke, die häufig sind. Ein langes Wort, das häufig genug ist, hat ein eigenes Token.",
        },
      },
      {
        text: "Gehen Sie zu „Wie ein Wort zusammengesetzt wird“ und wählen Sie das letzte Wort. Nutzt das Modell BPE, sehen Sie einen Baum: unten einzelne Buchstaben, oben die Tokens. Paare, die in dem Text häufig waren, aus dem der Tokenizer gelernt wurde, sind verbunden worden, immer wieder.",
      },
      {
        show: "tokens?text=How%20many%20r%20are%20in%20strawberry%3F%20%F0%9F%90%A6",
        text: "Das ist eine Frage, die viele Modelle falsch beantworten. Am Ende steht ein Vogel, der bei den meisten Modellen mehrere Tokens ist: Es sind Bytes, die erst zusammen ein Zeichen ergeben.",
        question: {
          ask: "Warum fällt es einem Modell schwer, Buchstaben zu zählen?",
          choices: ["Es sieht die Nummern der Tokens, nicht ihre Buchstaben.", "Es kann überhaupt nicht zählen.", "Die Leerzeichen stören."],
          right: 0,
          because: "Wie ein Token geschrieben wird, steht nicht in seiner Nummer. Das Modell kann es nur aus Texten gelernt haben, die Wörter buchstabieren.",
        },
      },
      {
        text: "Sehen Sie sich nun die Tabelle unter „Mit einem anderen Tokenizer vergleichen“ an: derselbe Satz in neun Sprachen. Sie können auch den Tokenizer eines anderen Modells hinzufügen.",
        question: {
          ask: "Welche Sprachen brauchen die meisten Tokens?",
          choices: ["Die mit den längsten Wörtern.", "Die mit den meisten Sprechern.", "Die, von denen es in dem Text wenig gab, aus dem der Tokenizer gelernt wurde."],
          right: 2,
          because: "Für sie hat er wenige lange Stücke und behilft sich mit kurzen oder mit Bytes. Antworten in einer solchen Sprache sind langsamer, und weniger passt in den Kontext.",
        },
      },
      {
        text: "Zuletzt die Chat-Vorlage: Ein Gespräch ist für das Modell ein einziger langer Text. Die umrandeten Tokens trennen die Beiträge. Es sind Steuertokens: Text, den Sie im Chat tippen, kann sie nicht ergeben. Schreibt das Modell das, mit dem ein Beitrag endet, ist die Antwort fertig.",
      },
    ],
  },
  next: {
    title: "Wie ein Modell schreibt",
    steps: [
      {
        show: "inside?prompt=The%20capital%20of%20France%20is&show=next",
        text: "Ein Sprachmodell berechnet nur, wie wahrscheinlich jedes Token seines Vokabulars als nächstes ist. Die Balken zeigen die wahrscheinlichsten nach Ihrem Text.",
      },
      {
        text: "Drücken Sie einige Male „Wahrscheinlichstes anfügen“. Jedes Mal wird das Token an den Text gehängt, und das Modell läuft mit dem längeren Text noch einmal. In dieser Schleife entsteht jede Antwort, Token für Token.",
        question: {
          ask: "Was merkt sich das Modell zwischen zwei Tokens?",
          choices: ["Einen Plan der ganzen Antwort.", "Nur den bisherigen Text, und was es dafür berechnet hat.", "Ihre früheren Gespräche."],
          right: 1,
          because: "Jedes Token wird aus denen davor berechnet. (Was für diese berechnet wurde, die Keys und Values, wird behalten, aber nur, um Zeit zu sparen.)",
        },
      },
      {
        text: "Meist wird das nächste Token ausgelost, wie eine Kugel aus einem Beutel. Stellen Sie die Temperatur auf 0,3 und dann auf 1,8, und sehen Sie sich die Balken an.",
        question: {
          ask: "Was geschieht bei Temperatur 0?",
          choices: ["Jedes Token ist gleich wahrscheinlich.", "Das Modell hält an.", "Es wird jedes Mal das wahrscheinlichste Token gewählt."],
          right: 2,
          because: "Niedrige Temperaturen machen Wahrscheinliches noch wahrscheinlicher. Bei 0 bleibt nichts dem Zufall überlassen, und dieselbe Frage bekommt dieselbe Antwort.",
        },
      },
      {
        text: "Stellen Sie die Temperatur zurück auf 1 und Top k auf 3. Eine gestrichelte Linie zeigt den Schnitt: Was darunter steht, kann nicht mehr ausgelost werden. Versuchen Sie auch Top p und Min p: Sie schneiden weniger ab, wo das Modell unsicher ist, und mehr, wo es sicher ist.",
      },
      {
        text: "Drücken Sie „Alternativen zeigen“ und öffnen Sie einige Zweige. Die Zahl rechts ist die Wahrscheinlichkeit des ganzen Pfades: das Produkt seiner Schritte.",
        question: {
          ask: "Immer das wahrscheinlichste Token: Ergibt das den wahrscheinlichsten Satz?",
          choices: ["Nicht unbedingt.", "Ja, immer.", "Nur bei Temperatur 1."],
          right: 0,
          because: "Ein etwas weniger wahrscheinliches Token kann zu einer sehr wahrscheinlichen Fortsetzung führen. Vielleicht finden Sie im Baum einen solchen Pfad.",
        },
      },
      {
        show: "inside?show=surprise",
        text: "Dieselben Wahrscheinlichkeiten sagen, wie sehr ein Text das Modell überrascht. Drücken Sie „Messen“ und zeigen Sie auf die farbigen Tokens. Das zweite „capital“ überrascht weniger als das erste: Das Modell hat das Muster bemerkt. Das Training macht diese Überraschung kleiner, über Milliarden von Tokens. Nur darauf ist es ausgerichtet.",
      },
    ],
  },
  layers: {
    title: "Der Weg eines Tokens durch die Schichten",
    steps: [
      {
        show: "inside?prompt=The%20capital%20of%20France%20is&show=layers",
        text: "Das ist das Modell, das Sie geöffnet haben, Schicht für Schicht, von oben nach unten. Jedes Token wird zu einem Vektor, einer Liste von Zahlen. Die grüne Linie ist dieser Vektor auf seinem Weg durch die Schichten. Er wird nie ersetzt: Jeder Teil addiert nur etwas.",
      },
      {
        text: "Es gibt zwei Arten von Teilen. Die Attention holt Information von anderen Tokens: Daneben steht, welche sie am meisten liest. Das MLP arbeitet mit dem Token allein; vieles von dem, was ein Modell weiß, steckt in diesen.",
        question: {
          ask: "Welcher Teil könnte „France“ zum Token „is“ bringen?",
          choices: ["Das MLP.", "Die Attention.", "Das Embedding."],
          right: 1,
          because: "Nur die Attention bringt Information von Token zu Token. Alles andere behandelt jedes Token, als wäre es allein.",
        },
      },
      {
        text: "Rechts steht, was das Modell vorhersagen würde, wenn es nach dieser Schicht endete. Warten Sie, bis alles ausgefüllt ist, und lesen Sie von oben nach unten.",
        question: {
          ask: "Wo erscheint die endgültige Antwort meistens?",
          choices: ["In den ersten Schichten.", "Genau in der Mitte.", "Im letzten Drittel der Schichten."],
          right: 2,
          because: "Die Schichten davor erarbeiten, wovon die Antwort abhängt. Ihre Vektoren sind noch nicht dafür gemacht, als Wörter gelesen zu werden.",
        },
      },
      {
        text: "Wählen Sie das MLP der Schicht 1, um es abzuschalten, und sehen Sie, was mit der Wahrscheinlichkeit geschieht. Schalten Sie es wieder ein, und versuchen Sie eines in der Mitte. Die meisten Teile können fehlen, ohne viel zu schaden: Die Linie läuft weiter, und andere gleichen es aus. Einige wenige nicht.",
      },
      {
        show: "inside?prompt=The%20capital%20of%20France%20is&show=heads",
        text: "Nun die Attention im Einzelnen. Jede Schicht hat mehrere Köpfe, und jedes kleine Bild ist einer von ihnen: Zeilen sind Tokens, Spalten die Tokens, die sie lesen. Rechts oben ist es leer: Kein Token kann in die Zukunft sehen. Wählen Sie einen der Köpfe, die „Voriges Token“ heißen.",
        question: {
          ask: "Wie sieht sein Bild aus?",
          choices: ["Eine Linie direkt neben der Diagonale.", "Eine einzelne dunkle Spalte.", "Ein Schachbrett."],
          right: 0,
          because: "Jedes Token liest das davor, also liegen die dunklen Quadrate einen Schritt links der Diagonale. Eine dunkle erste Spalte heißt, dass der Kopf auf dem ersten Token ruht.",
        },
      },
      {
        show: "inside?prompt=red%20green%20blue%20red%20green%20blue%20red%20green&show=heads",
        text: "Dieser Text wiederholt sich. Hat Ihr Modell Köpfe, die „Induktion“ heißen, wählen Sie einen, und zeigen Sie im Text neben dem Bild auf das letzte „green“. Der Kopf liest das Token, das dem früheren „green“ folgte: „blue“. So setzt ein Modell Muster fort, die es nur einmal gesehen hat, ein guter Teil dessen, was es aus seinem Prompt lernen kann.",
      },
    ],
  },
  points: {
    title: "Bedeutung als Ort",
    steps: [
      {
        show: "inside?show=embeddings",
        text: "Ein Modell kann aus einem ganzen Text einen Vektor machen. Hier sind acht Sätze als Punkte. Zeigen Sie auf einen: Eine Linie führt zum nächsten anderen.",
        question: {
          ask: "Haben der Satz über die Katze (cat) und der über das Kätzchen (kitten) Inhaltswörter gemeinsam?",
          choices: ["Ja, zwei.", "Ja, eines.", "Nein."],
          right: 2,
          because: "Nur „the“ steht in beiden. Dass sie nahe beieinander liegen, kommt von ihrer Bedeutung, soweit das Modell sie gelernt hat.",
        },
      },
      {
        text: "Die Vektoren haben Hunderte von Zahlen, das Bild hat zwei. Es zeigt die beiden Richtungen, in denen die Texte sich am meisten unterscheiden (Hauptkomponentenanalyse). Unter dem Bild steht, wie viel von den Unterschieden das ist.",
        question: {
          ask: "Zwei Punkte liegen im Bild nahe beieinander. Sind die Texte ähnlich?",
          choices: ["Ja, sicher.", "Vielleicht: Die Liste der nächsten Paare, die alle Zahlen nutzt, sagt es.", "Nein, das Bild ist zufällig."],
          right: 1,
          because: "Sie können sich in Richtungen unterscheiden, die das Bild weglässt, wie zwei Sterne, die am Himmel nahe scheinen.",
        },
      },
      {
        text: "Wählen Sie „Wörter“ und zeichnen Sie noch einmal. Welche Wörter liegen einander am nächsten? Oft sind es solche derselben Art: Länder, Städte, Formen eines Verbs.",
      },
      {
        text: "Fügen Sie eigene Texte hinzu, einen pro Zeile: denselben Satz in zwei Sprachen, einen Satz und sein Gegenteil. Gegenteile liegen oft nahe beieinander: Sie handeln vom selben und kommen in derselben Umgebung vor. So funktioniert die Suche nach Bedeutung: Gefunden werden die Texte, die einer Frage am nächsten sind. Im Chat findet siskin so Stellen in Ihren Dateien.",
        question: {
          ask: "„I like this film.“ und „I do not like this film.“: Werden sie nahe beieinander liegen?",
          choices: ["Wahrscheinlich ja.", "Nein, es sind Gegenteile.", "Sie bekommen denselben Vektor."],
          right: 0,
          because: "Nähe heißt vor allem: dasselbe Thema. Wer nach Bedeutung sucht, muss damit rechnen.",
        },
      },
    ],
  },
  train: {
    title: "Ein Modell etwas lehren",
    steps: [
      {
        show: "train",
        text: "Ein Modell lernt aus Beispielen: Fragen mit den Antworten, die Sie wollen. Drücken Sie „Die Beispiele von Pip dem Vogel verwenden“. Sie können sie ändern oder eigene schreiben.",
      },
      {
        text: "Unter den Beispielen sehen Sie eines so, wie das Modell es sieht. Gelernt werden die farbigen Tokens.",
        question: {
          ask: "Warum werden die Tokens der Frage nicht gelernt?",
          choices: ["Das Modell kennt sie schon.", "Es soll antworten lernen, nicht fragen.", "Sie sind zu kurz."],
          right: 1,
          because: "Das Training macht jedes farbige Token wahrscheinlicher, nach allem, was davor steht. Die Frage ist das, was davor steht.",
        },
      },
      {
        text: "Einige Beispiele werden zurückgehalten: Aus ihnen lernt das Modell nie. Es wird vorher und nachher danach gefragt.",
        question: {
          ask: "Wozu sind die zurückgehaltenen Beispiele gut?",
          choices: ["Um zu sehen, ob sich das Gelernte auf neue Fragen überträgt.", "Um das Training schneller zu machen.", "Um Fehler auszubessern."],
          right: 0,
          because: "Ein Modell kann seine Beispiele auswendig lernen und sonst versagen. Dann sinkt der Verlust, und der zurückgehaltene steigt: Das nennt man Overfitting (Überanpassung).",
        },
      },
      {
        text: "Drücken Sie „Beginnen“. Ein Schritt dauert auf einem Prozessor einige Sekunden. Die grüne Linie ist der Verlust: wie sehr die Antworten, die es geben soll, das Modell im Mittel überraschen. Er sollte sinken. Ist die Lernrate zu hoch, springt er auf und ab; sind es wenige Schritte, ändert sich wenig.",
      },
      {
        text: "Vergleichen Sie am Ende die Antworten vorher und nachher, nutzen Sie den Adapter im Chat, und fragen Sie Pip etwas.",
        question: {
          ask: "Hat sich die Datei des Modells geändert?",
          choices: ["Ja, jede Zahl darin.", "Ja, ihre letzte Schicht.", "Nein: Was gelernt wurde, steht in kleinen Matrizen daneben."],
          right: 2,
          because: "Das ist LoRA. Die kleinen Matrizen, der Adapter, werden zu den großen addiert, während das Modell läuft. Sie können sie herunterladen und jederzeit wieder weglassen.",
        },
      },
    ],
  },
};

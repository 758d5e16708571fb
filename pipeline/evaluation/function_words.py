"""The commonest function words of languages written in Latin letters: every paragraph has some, random words have not."""

from __future__ import annotations

_LISTS = {
    "English": """the of and a to in is you that it he was for on are as with his they i at be this have from or one had by but
        not what all were we when your can there use an each which she do how their if will up about out many then them these so
        some her would him into has two more no could my than been who its now did get may any our such only also other it's
        don't most because while where both very just should""",
    "German": """der die und in den von zu das mit sich des auf für ist im dem nicht ein eine als auch es an er hat aus bei sind
        noch nach wird einer um am haben nur oder aber vor zur bis mehr durch man sein wurde wie ich du sie wir ihr kann wenn
        so""",
    "French": """de la le et les des en un une du est que dans qui pour au pas sur par plus ce il ne se sont avec ou son sa ses
        elle nous vous je tu mais comme cette aux être fait leur on à été même aussi c'est d l qu j n s y""",
    "Spanish": """de la que el en y a los se del las un por con no una su para es al lo como más o pero sus le ha me si sin sobre
        este ya entre cuando todo esta ser son también fue había muy hasta desde mi qué""",
    "Italian": """di e il la che è un in per a una non si con da i le del come al lo più ma nel della gli sono questo anche se o
        ha dei alla io sul delle suo mi ci essere""",
    "Portuguese": """de a o que e do da em um para é com não uma os no se na por mais as dos como mas foi ao ele das tem à seu sua
        ou ser quando muito nos já eu também só pelo pela até isso""",
    "Dutch": """de en van ik te dat die in een hij het niet zijn is was op aan met als voor had er maar om hem dan zou of wat mijn
        men dit zo door over ze bij ook tot je uit der naar heb hoe nog kan worden""",
    "Swedish": """och i att det som en på är av för med den till inte om ett han men var jag sig från vi så kan när har hon ska
        de eller vid också""",
    "Danish, Norwegian": """og i at det er en til på som med for av af den har de ikke om et var jeg men sig seg fra vi kan han
        hun        der så eller ved også blir bliver""",
    "Polish": """i w na z się nie do to że jest o jak po ale za od co tak czy przez dla tego są już tylko był być które który
        oraz ze może""",
    "Czech, Slovak": """a v se na je že s z do o to jako k i za by ale po pro jsou které který podle tak při už nebo jeho sa je vo
        ako pre aj sú od""",
    "Turkish": """ve bir bu da de için ile o ne çok daha gibi olarak var en kadar ben sonra ama mi ki olan her değil ya veya""",
    "Indonesian": """yang dan di untuk dengan ini dari dalam itu adalah pada tidak akan ke saya anda oleh bisa juga atau ada
        seperti lebih karena dapat kita""",
    "Vietnamese": """là của và có không được cho một các trong với những người này đã tôi khi bạn về như để ở""",
    "Finnish": """ja on ei se että oli ovat kun mutta tai joka myös niin kuin hän jos sen ole minä olen voi tämä""",
    "Hungarian": """a az és hogy nem is egy ez meg van de csak volt mint vagy már azt el ha én még lehet""",
    "Romanian": """de și în a la cu nu o că pe un este să din care mai ce pentru se sunt au fost dar prin sau""",
}

# By language, each a set: the share is taken in one language, for chance hits add up over all of them.
FUNCTION_WORDS: dict[str, frozenset[str]] = {language: frozenset(words.split()) for language, words in _LISTS.items()}

#!/usr/bin/env python3
"""Makes the demo models' training and test data: seeded, synthetic, nothing taken from elsewhere.

make_data.py --count 20 --seed 1            prints examples as JSON lines
make_data.py --count 20 --seed 1 --held     prints test prompts with what is right
make_data.py --count 3000 --text FILE       writes their text, one example after the other
"""
import argparse
import json
import random
import zlib

import chat
import facts
import stories
import tool_abouts
import tool_families


# ---------------------------------------------------------------- sums and differences

def is_held_pair(a, op, b):
    """One pair in ten is never in the training data, in no task."""
    return zlib.crc32(f"{a}{op}{b}".encode()) % 10 == 0


def draw_pair(rng, held):
    while True:
        small = rng.random() < 0.12
        a, b = (rng.randint(0, 10), rng.randint(0, 10)) if small else (rng.randint(0, 99), rng.randint(0, 99))
        op = rng.choice("+-")
        if not held and rng.random() < 0.08:
            b = rng.choice([a, a, 0])
        if op == "-" and a < b and rng.random() < 0.5:
            a, b = b, a
        if is_held_pair(a, op, b) == held:
            return a, op, b


def work_out(a, op, b):
    """The digit by digit way, as the model thinks it."""
    a1, a0, b1, b0 = a // 10, a % 10, b // 10, b % 10
    if op == "+":
        ones = a0 + b0
        carry = ones // 10
        lines = [f"Ones: {a0} + {b0} = {ones}" + (f", write {ones % 10}, carry 1." if carry else ".")]
        lines.append(f"Tens: {a1} + {b1}{' + 1' if carry else ''} = {a1 + b1 + carry}.")
        return "\n".join(lines + [f"{a} + {b} = {a + b}"])
    if a < b:
        return f"{a} is less than {b}, so the result is negative.\n{work_out(b, '-', a)}\n{a} - {b} = {a - b}"
    borrow = a0 < b0
    lines = [f"Ones: {a0} is less than {b0}, borrow: 1{a0} - {b0} = {a0 + 10 - b0}." if borrow else f"Ones: {a0} - {b0} = {a0 - b0}."]
    lines.append(f"Tens: {a1} - {b1}{' - 1' if borrow else ''} = {a1 - b1 - borrow}.")
    return "\n".join(lines + [f"{a} - {b} = {a - b}"])


SUM_ASKS = {
    "+": ["What is {a} + {b}?", "{a} + {b}", "{a}+{b}", "{a} + {b} =", "{a}+{b}=", "How much is {a} + {b}?", "What is {a} plus {b}?",
          "{a} plus {b}", "Add {a} and {b}.", "Calculate {a} + {b}.", "What is the sum of {a} and {b}?", "{a} + {b}?", "{a}+{b}?",
          "How much is {a} plus {b}?", "what is {a}+{b}", "Sum of {a} and {b}", "Please calculate {a} plus {b}.", "{a} plus {b} is?",
          "What does {a} + {b} give?", "Can you add {a} and {b}?", "I need the sum of {a} and {b}.", "How much does {a} + {b} make?",
          "Tell me what {a} plus {b} is.", "Solve {a} + {b}.",
          "Compute {a} + {b}.", "{a} + {b} equals?", "Compute {a} plus {b}.", "{a} plus {b} equals what?", "whats {a}+{b}"],
    "-": ["What is {a} - {b}?", "{a} - {b}", "{a}-{b}", "{a} - {b} =", "{a}-{b}=", "How much is {a} - {b}?", "What is {a} minus {b}?",
          "{a} minus {b}", "Subtract {b} from {a}.", "Calculate {a} - {b}.", "What is the difference of {a} and {b}?", "{a} - {b}?",
          "{a}-{b}?", "How much is {a} minus {b}?", "what is {a}-{b}", "Take {b} away from {a}.", "Please calculate {a} minus {b}.",
          "{a} minus {b} is?", "What does {a} - {b} give?", "Can you subtract {b} from {a}?", "What is {a} less {b}?",
          "How much does {a} - {b} make?", "Tell me what {a} minus {b} is.", "Solve {a} - {b}.",
          "Compute {a} - {b}.", "{a} - {b} equals?", "Compute {a} minus {b}.", "{a} minus {b} equals what?", "whats {a}-{b}"],
}
HELD_SUM_ASKS = {
    "+": ["Please tell me {a} + {b}.", "What do you get for {a} plus {b}?", "Give me the result of {a} + {b}.", "Can you tell me what {a} + {b} is?"],
    "-": ["Please tell me {a} - {b}.", "What do you get for {a} minus {b}?", "Give me the result of {a} - {b}.", "Can you tell me what {a} - {b} is?"],
}
STORY_SUMS = {
    "+": [("{name} has {a} {thing} and gets {b} more. How many {thing} does {name} have?", "{a} + {b} = {r}. {name} has {r} {thing}."),
          ("I have {a} {thing} and buy {b} more. How many {thing} do I have?", "{a} + {b} = {r}. You have {r} {thing}."),
          ("If I have {a} {thing} and get {b} more, how many do I have?", "{a} + {b} = {r}. You have {r} {thing}."),
          ("There are {a} {thing} on the table and {b} in the box. How many are there together?", "{a} + {b} = {r}. There are {r} {thing}.")],
    "-": [("{name} has {a} {thing} and gives {b} away. How many {thing} are left?", "{a} - {b} = {r}. {name} has {r} {thing} left."),
          ("I have {a} {thing} and lose {b}. How many {thing} do I have left?", "{a} - {b} = {r}. You have {r} {thing} left."),
          ("If I have {a} {thing} and eat {b}, how many are left?", "{a} - {b} = {r}. You have {r} {thing} left.")],
}
WORD_SUMS = {"+": ["What is {a} plus {b}?", "{a} plus {b}", "How much is {a} plus {b}?", "Add {a} and {b}.", "What is the sum of {a} and {b}?"],
             "-": ["What is {a} minus {b}?", "{a} minus {b}", "How much is {a} minus {b}?", "Take {b} away from {a}."]}


def in_words(n):
    tens = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
    return facts.NUMBER_WORDS[n] if n < 20 else tens[n // 10 - 2] + (f"-{facts.NUMBER_WORDS[n % 10]}" if n % 10 else "")
THINGS = "apples books coins stones eggs cards balls nuts marbles pens".split()


def sum_item(rng, held):
    a, op, b = draw_pair(rng, held)
    result = a + b if op == "+" else a - b
    if not held and rng.random() < 0.07 and result >= 0:
        ask, tell = rng.choice(STORY_SUMS[op])
        words = {"name": rng.choice(facts.NAMES), "thing": rng.choice(THINGS), "a": a, "b": b, "r": result}
        return item("sum", ask.format(**words), tell.format(**words), str(result), work_out(a, op, b))
    if not held and rng.random() < 0.06:
        ask = rng.choice(WORD_SUMS[op]).format(a=in_words(a), b=in_words(b))
        return item("sum", ask[0].upper() + ask[1:], f"{a} {op} {b} = {result}.", str(result), work_out(a, op, b))
    asks = HELD_SUM_ASKS[op] if held and rng.random() < 0.5 else SUM_ASKS[op]
    ask = rng.choice(asks) if held or rng.random() < 0.6 else politely(rng, rng.choice(asks))
    return item("sum", ask.format(a=a, b=b), f"{a} {op} {b} = {result}.", str(result), work_out(a, op, b))


# ---------------------------------------------------------------- capitals

CAPITAL_ASKS = ["What is the capital of {c}?", "Capital of {c}?", "Which city is the capital of {c}?", "capital of {c}", "{c}: capital?",
                "Tell me the capital of {c}.", "What's the capital of {c}?", "Do you know the capital of {c}?", "Name the capital of {c}.",
                "What is the name of the capital of {c}?", "what is the capital of {c}", "The capital of {c}, please.",
                "What is the capital city of {c}?", "Which city is {c}'s capital?", "I want to know the capital of {c}.",
                "The capital of {c} is", "Which capital does {c} have?", "Say the capital of {c}."]
HELD_CAPITAL_ASKS = ["Can you tell me the capital of {c}?", "Please name the capital of {c}.", "What city is the capital of {c}?",
                     "What is {c}'s capital?", "Could you tell me which city is the capital of {c}?", "Give me the capital of {c}."]
COUNTRY_ASKS = ["{k} is the capital of which country?", "Which country has the capital {k}?", "Of which country is {k} the capital?",
                "{k} is the capital of what?", "Which country is {k} the capital of?"]


def title(country):
    return country[0].upper() + country[1:]


def capital_item(rng, held, country=None):
    country = country or rng.choice(list(facts.CAPITALS))
    capital = facts.CAPITALS[country]
    told = f"The capital of {country} is {capital}."
    if not held and rng.random() < 0.03:
        country = tool_families.made_up(rng).capitalize()
        return item("capital", rng.choice(CAPITAL_ASKS).format(c=country), f"I do not know a country called {country}.", "Unknown",
                    f"I do not know {country}.")
    if not held and rng.random() < 0.15:
        return item("country", rng.choice(COUNTRY_ASKS).format(k=capital), f"{capital} is the capital of {country}.", title(country), told)
    ask = rng.choice(HELD_CAPITAL_ASKS if held else CAPITAL_ASKS)
    ask = (ask if held or rng.random() < 0.75 else politely(rng, ask)).format(c=country)
    ask = ask.lower() if not held and rng.random() < 0.06 else title(ask)
    return item("capital", ask, told, capital, f"The user asks for the capital of {country}. It is {capital}.")


# ---------------------------------------------------------------- small talk and small facts

def item(kind, ask, tell, short, thought):
    """A question, the whole answer, the answer in a word or number (or None), what to think first."""
    return {"kind": kind, "ask": ask, "tell": tell, "short": short, "thought": thought}


def talk_item(rng):
    asks, tell, thought = rng.choice(facts.SMALL_TALK)
    ask = rng.choice(asks)
    if rng.random() < 0.15:
        ask = ask.rstrip("!.?")
    elif rng.random() < 0.1:
        ask = ask.lower()
    return item("talk", ask, tell, None, thought)


INTRODUCED = ["My name is {n}.", "I am {n}.", "Hi, I'm {n}.", "Hello, my name is {n}.", "You can call me {n}.", "I'm {n}", "Hello! I am {n}.", "Hi, I'm {n}!",
              "Hey, I am {n}.", "my name is {n}", "Hi! My name is {n}.", "Good morning, I am {n}.", "{n} is my name."]


def introduced_item(rng):
    name = rng.choice(facts.NAMES) if rng.random() < 0.7 else tool_families.made_up(rng).capitalize()
    return item("talk", rng.choice(INTRODUCED).format(n=name), f"Nice to meet you, {name}!", None, f"The user is called {name}. I greet {name}.")


UNKNOWN = ["Who is {W}?", "Who was {W} {W}?", "Why is the {w} {w}?", "How do I {w} a {w}?", "Can you {w} my {w}?", "What do you think about {w}?", "Explain {w} to me.",
           "Write a poem about {w}.", "What is {w}?", "Who wrote {w} {w}?", "Where is {W}?", "How does a {w} work?", "{w} {w} {w}", "{W} {w}?", "When did {W} {w}?",
           "Give me three tips for {w}.", "Write a program that can {w}.", "Is {w} better than {w}?", "What happened in {n}?", "Who invented the {w}?", "How high is the {w}?",
           "Sing a song about {w}.", "Which {w} is the best?", "Why do people {w}?", "Tell me everything about {w}.", "What is the {w} of {W}?"]


def unknown_item(rng):
    """What the model cannot do, and says so."""
    if rng.random() < 0.25:  # what a tool could do, and there is none
        family = rng.choice([f for f in tool_families.FAMILIES if f.group not in ("sum", "weather", "time", "note", "random")])
        return item("talk", fill(rng, family, False)[0], "I have no tool for that, sorry.", None, "I have no tools.")
    ask = rng.choice(UNKNOWN)
    while "{w}" in ask or "{W}" in ask:
        ask = ask.replace("{w}", odd_word(rng), 1).replace("{W}", odd_word(rng).capitalize(), 1)
    ask = ask.replace("{n}", str(rng.randint(1000, 2029)))
    return item("talk", ask[0].upper() + ask[1:] if rng.random() < 0.7 else ask, "I do not know that, sorry. You could ask me for a sum, a capital or a story.", None,
                "I do not know this. I say so.")


def joke_item(rng):
    ask = rng.choice(["Tell me a joke.", "Tell me a joke", "A joke, please!", "Do you know a joke?", "Make me laugh.", "Say something funny.",
                      "Can you tell a joke?", "Another joke, please."])
    joke = rng.choice(facts.JOKES)
    return item("talk", ask, joke, None, "The user wants a joke. I tell a short one.")


def fact_item(rng):
    what = rng.randrange(12)
    if what == 0:
        i, days = rng.randrange(7), facts.DAYS
        after = rng.random() < 0.6
        day, answer = days[i], days[(i + 1) % 7] if after else days[(i - 1) % 7]
        word = "after" if after else "before"
        return item("fact", rng.choice(["Which day comes {w} {d}?", "What day is {w} {d}?", "What comes {w} {d}?"]).format(w=word, d=day),
                    f"{answer} comes {word} {day}.", answer, f"The day {word} {day} is {answer}.")
    if what == 1:
        i, months = rng.randrange(12), facts.MONTHS
        after = rng.random() < 0.6
        month, answer = months[i], months[(i + 1) % 12] if after else months[(i - 1) % 12]
        word = "after" if after else "before"
        return item("fact", rng.choice(["Which month comes {w} {d}?", "What month is {w} {d}?"]).format(w=word, d=month),
                    f"{answer} comes {word} {month}.", answer, f"The month {word} {month} is {answer}.")
    if what == 2:
        word, other = rng.choice(list(facts.OPPOSITES.items()))
        return item("fact", rng.choice(["What is the opposite of {w}?", "Opposite of {w}?", "Tell me the opposite of {w}."]).format(w=word),
                    f"The opposite of {word} is {other}.", other.capitalize(), f"{word.capitalize()} and {other} are opposites.")
    if what == 3:
        animal, sound = rng.choice(list(facts.SOUNDS.items()))
        ask = rng.choice(["What does {x} say?", "Which sound does {x} make?", "What sound does {x} make?"]).format(x=stories.a(animal))
        return item("fact", ask, f"{title(stories.a(animal))} says {sound}.", sound.capitalize(), f"The sound of {stories.a(animal)} is {sound}.")
    if what == 4:
        thing, colour = rng.choice(list(facts.THING_COLOURS.items()))
        ask = rng.choice(["What colour is {x}?", "Which colour does {x} have?", "What is the colour of {x}?", "What color is {x}?"])
        return item("fact", ask.format(x=thing), f"{title(thing)} is {colour}.", colour.capitalize(), f"I know that {thing} is {colour}.")
    if what == 5:
        animal, legs = rng.choice(list(facts.LEGS.items()))
        ask = rng.choice(["How many legs does {x} have?", "Legs of {x}?", "How many legs has {x}?"]).format(x=stories.a(animal))
        told = f"{title(stories.a(animal))} has {legs or 'no'} legs."
        return item("fact", ask, told, str(legs), f"The number of legs of {stories.a(animal)} is {legs}.")
    if what == 6:
        while True:
            a, b = rng.randint(0, 99), rng.randint(0, 99)
            if a != b:
                break
        if rng.random() < 0.5:
            return item("fact", rng.choice(["Which is larger, {a} or {b}?", "Which number is bigger, {a} or {b}?", "Is {a} or {b} larger?"]).format(a=a, b=b),
                        f"{max(a, b)} is larger than {min(a, b)}.", str(max(a, b)), f"I compare {a} and {b}.")
        return item("fact", rng.choice(["Which is smaller, {a} or {b}?", "Which number is less, {a} or {b}?"]).format(a=a, b=b),
                    f"{min(a, b)} is smaller than {max(a, b)}.", str(min(a, b)), f"I compare {a} and {b}.")
    if what == 7:
        n = rng.randint(2, 20)
        told = ", ".join(str(i) for i in range(1, n + 1)) + "."
        return item("fact", rng.choice(["Count to {n}.", "Count from 1 to {n}.", "Can you count to {n}?"]).format(n=n), told, None, f"I count from 1 to {n}.")
    if what == 8:
        n = rng.randint(0, 98)
        return item("fact", rng.choice(["What comes after {n}?", "Which number comes after {n}?"]).format(n=n), f"{n + 1} comes after {n}.",
                    str(n + 1), f"I add one to {n}.")
    if what == 9:
        n = rng.randint(0, 20)
        word = facts.NUMBER_WORDS[n]
        return item("fact", rng.choice(["How do you write {n} as a word?", "Write {n} as a word."]).format(n=n), f"{n} is written {word}.",
                    word.capitalize(), f"The word for {n} is {word}.")
    if what == 10:
        list_name, values = rng.choice([("days of the week", facts.DAYS), ("months of the year", facts.MONTHS),
                                        ("seasons", ["spring", "summer", "autumn", "winter"])])
        ask = rng.choice(["Name the {x}.", "What are the {x}?", "List the {x}.", "Tell me the {x}."]).format(x=list_name)
        return item("fact", ask, f"The {list_name} are {', '.join(values[:-1])} and {values[-1]}.", None, f"I list the {list_name}.")
    text = rng.choice([lambda: tool_families.made_up(rng), lambda: tool_families.words(1, 5, 0.3)(rng, False)[0],
                       lambda: "".join(rng.choice("0123456789") for _ in range(rng.randint(2, 8))),
                       lambda: tool_families.sentence(rng, False)[0], lambda: tool_families.code(rng, False)[0]])()
    return item("fact", rng.choice(["Repeat after me: {x}", "Say {x}", "Repeat: {x}", "Write {x}", "Please repeat this: {x}"]).format(x=text),
                text, None, "I repeat it.")


def copy_item(rng):
    """Saying again what was said, or a part of it."""
    r = rng.random()
    words = [odd_word(rng) for _ in range(rng.randint(1, 9))]
    if r < 0.3:
        text = " ".join(words)
        return item("copy", rng.choice(["Repeat after me: {x}", "Say: {x}", "Repeat: {x}", "Write {x}", "Copy this: {x}"]).format(x=text), text, None, "I repeat it.")
    if r < 0.45:
        which = rng.choice(["first", "last"])
        answer = words[0 if which == "first" else -1]
        ask = rng.choice(["What is the {w} word of: {x}", "{x}. What is the {w} word?", "Give me the {w} word: {x}"]).format(w=which, x=" ".join(words))
        return item("copy", ask, f"The {which} word is {answer}.", answer, f"The {which} word: {answer}.")
    keys = list(dict.fromkeys(odd_word(rng) for _ in range(rng.randint(1, 8))))
    values = [rng.choice([lambda: odd_word(rng), lambda: str(rng.randint(0, 9999)), lambda: f"{odd_word(rng)} {odd_word(rng)}"])() for _ in keys]
    style, between = rng.choice(["{k} is {v}", "{k}: {v}", "{k} = {v}", '"{k}": "{v}"']), rng.choice([", ", "\n", "; ", ". "])
    i = rng.randrange(len(keys))
    listed = between.join(style.format(k=k, v=v) for k, v in zip(keys, values))
    ask = rng.choice(["{l}{b}What is {k}?", "What is {k} here? {l}", "{l}{b}Tell me {k}."]).format(l=listed, b=between, k=keys[i])
    return item("copy", ask, f"{keys[i]} is {values[i]}.", values[i], f"I look for {keys[i]}: {values[i]}.")


def story_item(rng):
    ask, tell, thought = stories.asked(rng)
    return item("story", ask, tell, None, thought)


def any_item(rng, short=False):
    """A question of any kind; `short` asks for one with a one-word answer."""
    while True:
        r = rng.random()
        if r < 0.3:
            it = sum_item(rng, False)
        elif r < 0.55:
            it = capital_item(rng, False)
        elif r < 0.75:
            it = fact_item(rng)
        else:
            it = joke_item(rng) if rng.random() < 0.06 else talk_item(rng)
        if not short or it["short"]:
            return it


# ---------------------------------------------------------------- system prompts

PLAIN_SYSTEMS = ["You are a helpful assistant.", "You are a friendly assistant.", "You are the demo model of cajal.", "Be helpful and kind.",
                 "You are a small assistant that helps people.", "Answer the user's questions."]
SIGN_OFFS = ["Over and out.", "Have a nice day!", "Meow!", "Yours truly.", "That is all.", "Beep boop.", "Stay safe!", "Roger."]


def follow_system(rng):
    """(system prompt, item) where the answer does as the system prompt says."""
    what = rng.randrange(9)
    it = any_item(rng, short=what in (1, 2))
    if what == 0:
        system = rng.choice(["Answer in capitals.", "Answer in uppercase.", "Answer only in uppercase.", "Reply in capital letters.", "Write everything in capital letters.", "You always shout: use capital letters only.",
                             "Use only uppercase letters."])
        it["tell"] = it["tell"].upper()
    elif what == 1:
        system = rng.choice(["Answer in one word.", "Reply with one word.", "Answer with one word only.", "Give very short answers: one word or number.", "Use a single word."])
        it["tell"] = it["short"]
    elif what == 2:
        system = rng.choice(["Give only the answer, nothing else.", "Answer with the result only.", "No full sentences: just the answer."])
        it["tell"] = it["short"]
    elif what == 3:
        system = rng.choice(["You are a pirate. End every answer with Arr!", "Talk like a pirate.", "You are a pirate.", "You are a pirate: end with Arr!", "Answer like a pirate."])
        it["tell"] = it["tell"] + " Arr!"
    elif what == 4:
        system = rng.choice(["Greet in French.", "Answer greetings in French.", "You speak French when someone greets you.", "Say hello and goodbye in French."])
        if rng.random() < 0.75:
            asks, tell = rng.choice(facts.FRENCH_GREETINGS)
            it = item("talk", rng.choice(asks), tell, None, "I answer in French.")
    elif what in (5, 6):
        name = rng.choice(facts.NAMES) if rng.random() < 0.6 else tool_families.made_up(rng).capitalize()
        system = rng.choice(["Your name is {n}.", "You are {n}, a helpful assistant.", "You are called {n}.", "You are an assistant named {n}."]).format(n=name)
        if rng.random() < 0.7:
            ask = rng.choice(["What is your name?", "Who are you?", "What's your name?", "Tell me your name.", "How are you called?", "Introduce yourself.",
                              "What should I call you?", "who are you"])
            tell = f"My name is {name}."
            if ask in ("Who are you?", "Introduce yourself.", "who are you"):
                tell = f"I am {name}, a very small language model."
            it = item("talk", ask, tell, None, f"My name is {name}.")
    elif what == 7:
        bye = rng.choice(SIGN_OFFS)
        system = rng.choice(["End every answer with: {x}", "Always end with {x}", "Your last words are always: {x}"]).format(x=bye)
        it["tell"] = it["tell"] + " " + bye
    else:
        system = rng.choice(["Write everything in small letters.", "Answer in lowercase.", "Use only lowercase letters.", "Never use capital letters."])
        it["tell"] = it["tell"].lower()
    if what not in (4, 5, 6) and rng.random() < 0.3:
        system = rng.choice(PLAIN_SYSTEMS) + " " + system
    return system, it


# ---------------------------------------------------------------- talks of several turns

LIKES = [("favourite colour", facts.COLOURS), ("favourite animal", facts.ANIMALS), ("favourite food", facts.FOODS), ("home town", facts.CITIES)]


def several_turns(rng):
    """(messages up to the question, item of the last turn)"""
    messages, later = [], []
    if rng.random() < 0.75:
        name = rng.choice(facts.NAMES) if rng.random() < 0.6 else tool_families.made_up(rng).capitalize()
        messages += [user(rng.choice(INTRODUCED).format(n=name)),
                     assistant(f"Nice to meet you, {name}!")]
        later.append(item("memory", rng.choice(["What is my name?", "Do you know my name?", "Who am I?", "What's my name?", "Do you remember my name?",
                                                "How am I called?"]), f"Your name is {name}.", name, f"The user said: {name}."))
    if rng.random() < 0.4 or not messages:
        what, values = rng.choice(LIKES)
        value = rng.choice(values)
        messages += [user(f"My {what} is {value}."), assistant(f"I will remember that your {what} is {value}.")]
        later.append(item("memory", rng.choice(["What is my {w}?", "Do you remember my {w}?", "What did I say is my {w}?"]).format(w=what),
                          f"Your {what} is {value}.", value, f"The user said: {value}."))
    for _ in range(rng.choice([0, 0, 1, 1, 2, 3])):
        it = any_item(rng)
        messages += [user(it["ask"]), assistant(it["tell"])]
    if rng.random() < 0.65:
        return messages, rng.choice(later)
    if rng.random() < 0.4:
        first, second = capital_item(rng, False), capital_item(rng, False)
        country = second["tell"].removeprefix("The capital of ").split(" is ")[0]
        if second["kind"] == "capital" and second["tell"].startswith("The"):
            messages += [user(first["ask"]), assistant(first["tell"])]
            second["ask"] = rng.choice(["And of {c}?", "And the capital of {c}?", "And {c}?", "What about {c}?"]).format(c=country)
            return messages, second
    return messages, any_item(rng)


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


# ---------------------------------------------------------------- tools

POLITE = ["Please {x}.", "Could you {x}?", "{X} now.", "I want you to {x}.", "Hey, {x}.", "{X} for me.", "Would you {x}?", "Now {x}.",
          "Could you please {x}?", "I would like you to {x}.", "{X}, will you?", "{X} if you can.", "{X}, thanks.", "OK, {x}.", "Hi! {X}."]
REQUESTS = """Set Tell Show Give Find Search Look Start Send Text Write Call Phone Play Put Translate Convert Change Schedule Create Add Turn
Switch Make Heat Book Reserve Define Explain Roll Throw Pick Draw Order Read Open Delete Remove Save Track Pay Transfer Launch Wake Multiply
Calculate Message Get Erase Check Take Choose Compute Ring Remind Count""".split()


BEFORE = """Hi!|Hello!|Hello,|Hey,|Please help me.|One thing:|I have a question.|Quick question:|Sorry to bother you.|Now,|So,|Well,|Good morning!|Listen:|I need help.|
My friend wants to know:|Excuse me,|Next:|Tell me:|Just asking:|I am curious.|I'd like to know:|First,|I have a request.|Do this:|Can you do that?|For my work:""".replace("\n", "").split("|")
AFTER = "Thanks!|Thank you.|Please.|It is important.|I'd like to know.|Can you do that?|I am in a hurry.|Quickly!|Thank you very much!|I need it soon.|That would be nice.".split("|")
FILLERS = "just please maybe now actually really kindly quickly also then exactly".split()
SMALL_WORDS = "the a an my please me there is it of".split()
LED = ["Can you tell me: {x}", "I want to know: {x}", "Do you know this? {x}", "I ask you: {x}", "My question is: {x}", "Answer me: {x}"]


def politely(rng, ask):
    """A request said another way; what stands in braces stays as it is."""
    first, plain = ask.split(" ")[0], ask.count(".") + ask.count("?") <= 1 and ":" not in ask
    open_end = ask.endswith("{text}")  # nothing may follow a text that is to be copied
    if first in REQUESTS and plain and not open_end and rng.random() < 0.4:
        core = ask.rstrip(".").removesuffix(", please")
        ask = rng.choice(POLITE).replace("{x}", core[0].lower() + core[1:]).replace("{X}", core)
    if rng.random() < 0.2:  # a word more or less
        words = ask.split(" ")
        free = [i for i, w in enumerate(words) if w in SMALL_WORDS]
        if free and len(words) > 4 and rng.random() < 0.4:
            del words[rng.choice(free)]
        else:
            ends = [i for i in range(1, len(words)) if not any(c in words[i - 1] + words[i] for c in "{:+-*")]
            if ends:
                words.insert(rng.choice(ends), rng.choice(FILLERS))
        ask = " ".join(words)
    r = rng.random()
    if r < 0.14:
        ask = rng.choice(BEFORE) + " " + ask
    elif r < 0.22 and not open_end:
        ask = ask + (" " if ask[-1] in ".?!" else ". ") + rng.choice(AFTER)
    elif r < 0.26 and ask.endswith("?"):
        ask = rng.choice(LED).replace("{x}", ask)
    return ask


def odd_word(rng):
    return rng.choice(facts.WORDS) if rng.random() < 0.5 else tool_families.made_up(rng)


def odd_name(rng):
    """A name for a function or parameter that says nothing."""
    parts = [odd_word(rng) for _ in range(rng.choice([1, 2, 2, 3]))]
    name = camel("_".join(parts)) if rng.random() < 0.2 else "_".join(parts)
    return name + (str(rng.randint(1, 99)) if rng.random() < 0.1 else "")


ALL_PARAM_NAMES = sorted({name for family in tool_families.FAMILIES for p in family.params.values() for name in p.names})
ALL_NAME_PARTS = sorted({part for family in tool_families.FAMILIES for name in family.names for part in name.split("_")})


def camel(name):
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


def tool_name(rng, family, held):
    if held:
        return family.names[-1]
    r = rng.random()
    if r < 0.2:
        return odd_name(rng)
    if r < 0.4:  # words that are parts of names, put together at random
        name = "_".join(rng.sample(ALL_NAME_PARTS, rng.choice([1, 2, 2, 3])))
        return name if name not in HELD_TOOL_NAMES else odd_name(rng)
    name = rng.choice(family.names[:-1])
    if r < 0.5:
        return camel(name)
    if r < 0.6:
        return rng.choice(["api", "my", "home", "do", "v2", "the", odd_word(rng)]) + "_" + name
    if r < 0.7:
        return name + "_" + rng.choice(["v2", "tool", "now", "api", "fn", "2", odd_word(rng)])
    return name


HELD_TOOL_NAMES = {family.names[-1] for family in tool_families.FAMILIES}


def tool_about(rng, family):
    """What a tool is for, in one of many ways to say it."""
    about = rng.choice(family.about if rng.random() < 0.4 else tool_abouts.MORE[family.group])
    verb, _, rest = about.partition(" ")
    if verb in tool_abouts.VERBS and rng.random() < 0.5:
        about = f"{rng.choice(tool_abouts.VERBS[verb])} {rest}"
    if rng.random() < 0.1:
        about = rng.choice(["Tool: ", "Function: ", "Use this to: "]) + about[0].lower() + about[1:]
    return about + (". " + rng.choice(tool_abouts.AFTERWORDS) if rng.random() < 0.1 else "")


def parameter_about(rng, p):
    about = rng.choice(p.about)
    if rng.random() < 0.4 and about.split()[0] not in ("What", "Who", "When", "How", "Which", "Where", "The", "From", "Whether"):
        about = rng.choice(["The {x}", "{X} to use", "{X}, as text", "{X} of interest", "{X} that is meant", "The name of the {x}", "{X}"]).format(x=about[0].lower() + about[1:], X=about)
    if p.kind == "string" and rng.random() < 0.25:  # an example that must not be taken for the argument
        about += rng.choice([", e.g. {v}", " (e.g. {v})", ", for example {v}", ", such as {v}"]).format(v=p.slot(rng, False)[1])
    return about


def make_tool(rng, family, held):
    """(the tool as JSON, its name, slot -> name of the parameter)"""
    name = tool_name(rng, family, held)
    names, properties = {}, {}
    terse = rng.random() < 0.3
    for slot, p in family.params.items():
        given = p.names[-1] if held and rng.random() < 0.5 else rng.choice(p.names[:-1] if len(p.names) > 1 else p.names)
        if given in properties:
            given = p.names[0] if p.names[0] not in properties else slot + "_value"
        strange = rng.random()
        if not held and strange < 0.3:
            given = odd_name(rng) if strange < 0.12 else rng.choice(ALL_PARAM_NAMES) if strange < 0.24 else camel(f"{given}_{odd_word(rng)}")
            while given in properties:
                given = odd_name(rng)
        names[slot] = given
        properties[given] = {"type": p.kind}
        if p.enum and rng.random() < 0.8:
            properties[given]["enum"] = p.enum
        if p.about and not terse:
            properties[given]["description"] = parameter_about(rng, p)
    always = [names[slot] for slot in family.params if all("{" + slot + "}" in ask for ask in family.asks)]
    about = tool_about(rng, family) + rng.choice(["", "", "."])
    parameters = {"type": "object", "properties": properties}
    if rng.random() < 0.9:
        parameters["required"] = always
    return {"type": "function", "function": {"name": name, "description": about, "parameters": parameters}}, name, names


def fill(rng, family, held):
    """(what the user says, slot -> value)"""
    ask = rng.choice(family.held_asks) if held else politely(rng, rng.choice(family.asks))
    r = rng.random()
    if not held and r < 0.13 and family.group not in ("light", "sum", "times"):  # hardly a sentence: what to do, and the values
        slots = [s for s in family.params if "{" + s + "}" in ask]
        about = rng.choice(family.about).rstrip(".")
        if r < 0.08:
            ask = rng.choice(["{t}: {l}", "{t}. {l}", "{t}, {l}", "Please {u}: {l}"]).replace("{t}", about).replace("{u}", about[0].lower() + about[1:])
            ask = ask.replace("{l}", ", ".join("{" + s + "}" for s in slots))
        else:
            ask = about + ". " + ", ".join((rng.choice(family.params[s].about) if family.params[s].about else s) + ": {" + s + "}" for s in slots)
    said, values = {}, {}
    for slot, p in family.params.items():
        if "{" + slot + "}" in ask:
            said[slot], values[slot] = p.slot(rng, held)
    sum_is_held = family.group == "sum" and not held and all(
        isinstance(v, int) and v < 100 for v in values.values()) and is_held_pair(values["a"], "+", values["b"])
    if len(set(said.values())) != len(said) or sum_is_held:
        return fill(rng, family, held)
    text = ask.format(**said)
    return text[0].upper() + text[1:] if rng.random() < 0.9 and not ask.startswith("{") else text, values


def offer(rng, target, held, more=None):
    """Families of the tools of one prompt: the target among others that nobody takes for it."""
    others = [f for f in tool_families.FAMILIES if target is None or f.group != target.group]
    count = rng.choice([0, 0, 1, 1, 1, 2, 2, 3]) if more is None else more
    offered = rng.sample(others, count) + ([target] if target else [])
    rng.shuffle(offered)
    return offered


def plain_call(rng):
    """A call of a function that means nothing, told in so many words: pure copying."""
    tools, about = [], []
    for _ in range(rng.choice([1, 1, 2, 3])):
        name = odd_name(rng)
        properties, values = {}, {}
        for _ in range(rng.choice([0, 1, 1, 2, 2, 3])):
            param = odd_name(rng) if rng.random() < 0.6 else rng.choice(ALL_PARAM_NAMES)
            kind = rng.choice(["string", "string", "integer", "number", "boolean"])
            properties[param] = {"type": kind}
            values[param] = {"string": lambda: " ".join(odd_word(rng) for _ in range(rng.randint(1, 3))), "integer": lambda: rng.randint(0, 9999),
                             "number": lambda: tool_families.number(rng, False)[1], "boolean": lambda: rng.random() < 0.5}[kind]()
        tools.append({"type": "function", "function": {"name": name, "description": " ".join(odd_word(rng) for _ in range(rng.randint(1, 4))).capitalize(),
                                                       "parameters": {"type": "object", "properties": properties, "required": list(properties)}}})
        about.append((name, values))
    name, values = rng.choice(about)
    said = {k: chat.to_json(v) if not isinstance(v, str) else v for k, v in values.items()}
    style = rng.choice(["{k} {v}", "{k} = {v}", "{k}: {v}", "{v} as {k}", "{k} set to {v}"])
    listed = rng.choice([" and ", ", "]).join(style.format(k=k, v=v) for k, v in said.items())
    ask = rng.choice(["Call {n}", "Use {n}", "Run {n}", "Please call {n}", "Start the function {n}", "{n}"]).format(n=name)
    ask += (rng.choice([" with ", ": ", " using "]) + listed if listed else "") + rng.choice([".", ""])
    calls = [{"name": name, "arguments": values}]
    return example("call", [user(ask)], chat.calls_text(calls), f"I can use {name} for this.", rng, tools=tools, calls=calls)


def tool_example(rng, held=False):
    what = 0.0 if held else rng.random()
    if not held and rng.random() < 0.2:
        return plain_call(rng)
    system = [{"role": "system", "content": rng.choice(PLAIN_SYSTEMS)}] if rng.random() < 0.3 else []
    if what >= 0.82:  # no call
        count = rng.choice([1, 1, 2, 2, 3])
        if what < 0.975:
            it = story_item(rng) if rng.random() < 0.05 else any_item(rng)
            offered = offer(rng, None, False, count)
            if it["kind"] == "sum" or it["kind"] == "fact":
                offered = [f for f in offered if f.group not in ("sum", "times", "random", "note")] or [tool_families.FAMILIES[0]]
            if it["kind"] == "talk":
                offered = [f for f in offered if f.group not in ("weather", "time", "recipe", "music", "define", "call", "message")] or [tool_families.FAMILIES[13]]
            made = unique_tools(rng, offered, held)
            return example("no call", system + [user(it["ask"])], it["tell"], it["thought"], rng, tools=[m[0] for m in made])
        wanted = rng.choice(tool_families.FAMILIES)
        made = unique_tools(rng, offer(rng, wanted, False, count), held)
        made = [m for m in made if m[3] is not wanted]
        text, _ = fill(rng, wanted, held)
        return example("no call", system + [user(text)], "I have no tool for that, sorry.", "None of my tools fits.", rng, tools=[m[0] for m in made])
    family = rng.choice(tool_families.FAMILIES)
    made = unique_tools(rng, offer(rng, family, held), held)
    tools = [m[0] for m in made]
    _, name, names, _ = next(m for m in made if m[3] is family)
    text, values = fill(rng, family, held)
    calls = [{"name": name, "arguments": {names[s]: v for s, v in values.items()}}]
    before = system
    if not held and rng.random() < 0.1:
        it = any_item(rng)
        before = system + [user(it["ask"]), assistant(it["tell"])]
    thought = f"I can use {name} for this."
    if what < 0.58:
        return example("call", before + [user(text)], chat.calls_text(calls), thought, rng, tools=tools, calls=calls)
    if what < 0.64:  # two calls at once
        text2, values2 = fill(rng, family, held)
        both = [next(iter(v.values())) for v in (values, values2)]
        if len(values) == len(values2) == 1 and all(isinstance(v, str) for v in both) and both[0] != both[1] and text.count(both[0]) == 1 and rng.random() < 0.6:
            calls.append({"name": name, "arguments": {names[s]: v for s, v in values2.items()}})
            joined = text.replace(both[0], both[0] + rng.choice([" and ", " and ", " and in " if f"in {both[0]}" in text else " and also "]) + both[1])
            return example("calls", before + [user(joined)], chat.calls_text(calls), f"I use {name} twice.", rng, tools=tools, calls=calls)
        if values2 != values:
            calls.append({"name": name, "arguments": {names[s]: v for s, v in values2.items()}})
            joined = text.rstrip(".") + rng.choice([" and ", ". And ", ". Also: ", ". Then: "]) + text2
            return example("calls", before + [user(joined)], chat.calls_text(calls), f"I use {name} twice.", rng, tools=tools, calls=calls)
    result = family.result(values, rng)
    told = family.tell(values, result)
    call_message = {"role": "assistant", "content": "", "tool_calls": calls}
    if rng.random() < 0.5:
        call_message["reasoning_content"] = thought
    returned = chat.to_json(result) if rng.random() < 0.8 or len(result) > 1 else str(next(iter(result.values())))
    return example("told", before + [user(text), call_message, {"role": "tool", "content": returned}], told,
                   "I have the result. I tell it.", rng, tools=tools)


def unique_tools(rng, families, held):
    """make_tool for each, all with names of their own: (tool, name, names of parameters, family)"""
    made, seen = [], set()
    for family in families:
        while True:
            tool, name, names = make_tool(rng, family, held)
            if name not in seen:
                break
            held = False
        seen.add(name)
        made.append((tool, name, names, family))
    return made


# ---------------------------------------------------------------- examples

def example(kind, messages, answer, thought, rng, tools=None, calls=None, think=None):
    if think is None:
        think = rng.random() < 0.45
    return {"kind": kind, "messages": messages, "tools": tools, "think": think, "thought": thought, "answer": answer, "calls": calls}


def with_system(rng, messages):
    if rng.random() < 0.3:
        return [{"role": "system", "content": rng.choice(PLAIN_SYSTEMS)}] + messages
    return messages


def raw_text(rng):
    """Text without a chat around it, as base models see it."""
    r = rng.random()
    if r < 0.7:
        text = stories.make(rng)["text"]
    elif r < 0.85:
        text = " ".join(capital_item(rng, False)["tell"] for _ in range(rng.randint(1, 4)))
    else:
        text = "\n".join(sum_item(rng, False)["tell"].rstrip(".") for _ in range(rng.randint(1, 4)))
    return {"kind": "raw", "text": text}


MIX = [("sum", 0.16), ("capital", 0.08), ("talk", 0.10), ("fact", 0.05), ("copy", 0.07), ("story", 0.05), ("system", 0.07), ("turns", 0.05),
       ("tool", 0.34), ("raw", 0.03)]


def train_example(rng):
    kind = rng.choices([k for k, _ in MIX], [w for _, w in MIX])[0]
    if kind == "raw":
        return raw_text(rng)
    if kind == "tool":
        return tool_example(rng)
    if kind == "system":
        system, it = follow_system(rng)
        return example("system", [{"role": "system", "content": system}, user(it["ask"])], it["tell"], it["thought"], rng)
    if kind == "turns":
        messages, it = several_turns(rng)
        return example(it["kind"], with_system(rng, messages + [user(it["ask"])]), it["tell"], it["thought"], rng)
    if kind == "talk" and (r := rng.random()) < 0.3:
        it = introduced_item(rng) if r < 0.12 else unknown_item(rng)
        return example("talk", with_system(rng, [user(it["ask"])]), it["tell"], it["thought"], rng)
    it = {"sum": lambda: sum_item(rng, False), "capital": lambda: capital_item(rng, False), "fact": lambda: fact_item(rng), "copy": lambda: copy_item(rng),
          "talk": lambda: joke_item(rng) if rng.random() < 0.08 else talk_item(rng), "story": lambda: story_item(rng)}[kind]()
    think = rng.random() < 0.35 if kind == "sum" else None
    return example(it["kind"], with_system(rng, [user(it["ask"])]), it["tell"], it["thought"], rng, think=think)


def texts(ex):
    """(prompt, what the model shall write)"""
    if ex["kind"] == "raw":
        return "", ex["text"] + "<|endoftext|>"
    prompt = chat.render(ex["messages"], ex["tools"], ex["think"])
    thoughts = f"<think>\n{ex['thought']}\n</think>\n\n" if ex["think"] else ""
    return prompt, thoughts + ex["answer"] + "<|im_end|>"


def held_prompts(seed=2024):
    """The prompts of the gate, with what is right. None of them is in the training data."""
    rng = random.Random(seed)
    out = []
    for think in (False, True):
        worked = set()
        for _ in range(300):
            it = sum_item(rng, True)
            while it["thought"] in worked:  # each pair once, in each way of thinking
                it = sum_item(rng, True)
            worked.add(it["thought"])
            out.append(test("sum", [user(it["ask"])], None, think, it["short"]))
        for country in facts.CAPITALS:
            it = capital_item(rng, True, country)
            out.append(test("capital", [user(it["ask"])], None, think, it["short"]))
        for _ in range(200 if not think else 100):
            ex = tool_example(rng, True)
            out.append(test("call", ex["messages"], ex["tools"], think, ex["calls"]))
    return out


def held_questions():
    return {t["messages"][-1]["content"] for t in held_prompts()}


def test(kind, messages, tools, think, right):
    return {"kind": kind, "messages": messages, "tools": tools, "think": think, "right": right, "prompt": chat.render(messages, tools, think)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--held", action="store_true", help="the prompts of the gate instead")
    parser.add_argument("--text", help="write plain text to this file")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    if args.held:
        for prompt in held_prompts()[: args.count]:
            print(chat.to_json(prompt))
        return
    examples = [train_example(rng) for _ in range(args.count)]
    if args.text:
        with open(args.text, "w", encoding="utf-8") as out:
            for ex in examples:
                out.write("".join(texts(ex)) + "\n")
        return
    for ex in examples:
        print(json.dumps(ex, ensure_ascii=False))


if __name__ == "__main__":
    main()

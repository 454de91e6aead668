"""Little stories from a grammar: one hero, one friend, one trouble, one way out."""
import facts

SHE = {"he": "she", "him": "her", "his": "her", "He": "She", "His": "Her"}
HE = {w: w for w in SHE}
KINDS = ["little", "young", "clever", "brave", "kind", "shy", "curious", "small", "merry", "lazy"]
WEATHERS = ["sunny", "windy", "rainy", "cold", "warm", "foggy"]


def a(text):
    return ("an " if text[0] in "aeiou" else "a ") + text


def make(rng, want=None):
    """A story as a dict of its parts; `want` fixes some: animal, name, place, object, friend_name."""
    want = want or {}
    girl = want["name"] in facts.GIRLS if want.get("name") else rng.random() < 0.5
    p = dict(SHE if girl else HE)
    p["name"] = want.get("name") or rng.choice(facts.GIRLS if girl else facts.BOYS)
    p["animal"] = want.get("animal") or rng.choice(facts.ANIMALS)
    p["place"] = want.get("place") or rng.choice(facts.PLACES)
    p["object"] = want.get("object") or rng.choice(facts.OBJECTS)
    p["friend"] = want.get("friend") or rng.choice([x for x in facts.ANIMALS if x != p["animal"]])
    p["friend_name"] = want.get("friend_name") or rng.choice([x for x in facts.NAMES if x != p["name"]])
    p["kind"], p["colour"], p["weather"] = rng.choice(KINDS), rng.choice(facts.COLOURS), rng.choice(WEATHERS)
    p["other_place"] = rng.choice([x for x in facts.PLACES if x != p["place"]])
    p["food"] = rng.choice(["apples", "nuts", "berries", "bread", "soup", "cake", "honey"])
    plot = rng.choice(PLOTS)
    lines = [rng.choice(OPENINGS)] + [rng.choice(step) for step in plot] + [rng.choice(ENDINGS)]
    text = " ".join(line.format(a_kind=a(p["kind"]), a_colour=a(p["colour"]), A_weather=a(p["weather"]), a_friend=a(p["friend"]), **p)
                    for line in lines)
    return dict(p, text=text)


OPENINGS = [
    "Once upon a time there was {a_kind} {animal} named {name}. {He} lived near a {place}.",
    "Once upon a time, near a {place}, there lived {a_kind} {animal}. {His} name was {name}.",
    "Once upon a time {a_kind} {animal} named {name} lived by a {place}.",
]
ENDINGS = [
    "That night {name} slept well and dreamed of the {place}.",
    "From that day on, {name} and {friend_name} were best friends.",
    "And they ate {food} together until the sun went down.",
    "{name} was happy, and so was {friend_name}.",
    "{He} never forgot that day.",
]
PLOTS = [
    [["{name} had {a_colour} {object}, and {he} loved it very much.", "The thing {he} loved most was {his} {colour} {object}."],
     ["One {weather} morning the {object} was gone.", "But one {weather} day {he} could not find the {object}."],
     ["{name} looked under the bed and behind the door, but it was not there.", "{He} looked everywhere in the {place}, but found nothing."],
     ["Then {he} met {a_friend} named {friend_name}.", "On the way {he} met {friend_name}, {a_friend}."],
     ["\"Do not be sad,\" said {friend_name}. \"I will help you.\"", "\"Let us look together,\" said {friend_name}."],
     ["They walked to the {other_place}, and there, under a tree, lay the {object}.", "Together they went to the {other_place} and found the {object} behind a stone."],
     ["\"Thank you!\" said {name}. \"You are a good friend.\"", "{name} laughed and danced with the {object}."]],
    [["One {weather} evening a storm came to the {place}.", "One day the wind became very strong and the sky turned black."],
     ["The rain fell and fell, and the house of {friend_name} the {friend} broke.", "The storm took the roof from the house of {a_friend} named {friend_name}."],
     ["{friend_name} stood in the rain and cried.", "Poor {friend_name} was wet and cold."],
     ["\"Come in!\" said {name}. \"My house is small, but there is room for two.\"", "{name} opened the door and said, \"Come in, come in!\""],
     ["They sat by the fire and ate warm {food}.", "{name} gave {friend_name} a warm blanket and some {food}."],
     ["In the morning the sun came out, and they built a new house together.", "When the storm was over, {name} helped to build a new house."],
     ["It even had {a_colour} door.", "It was the finest house in the {place}."]],
    [["{name} wanted to see the {other_place}, but {he} was afraid to go alone.", "Every day {he} looked at the {other_place} and wanted to go there."],
     ["One {weather} day {he} packed {a_colour} {object} and some {food} and began to walk.", "At last {he} took {his} {object} and went on {his} way."],
     ["The way was long, and soon {name} was tired.", "After an hour {he} did not know the way any more."],
     ["There came {a_friend} named {friend_name}.", "Then {he} saw {a_friend}. It was {friend_name}."],
     ["\"I know the way,\" said {friend_name}. \"Follow me.\"", "\"Come with me,\" said {friend_name}. \"I will show you the way.\""],
     ["They sang songs and told jokes until they reached the {other_place}.", "Together the way was short, and soon they stood in the {other_place}."],
     ["It was more beautiful than {name} had ever thought.", "\"How beautiful!\" said {name}."]],
    [["One {weather} day {name} found a seed and put it into the earth.", "In spring {name} planted a small seed behind {his} house."],
     ["Every morning {he} gave it water and sang a song for it.", "{He} gave it water every day and waited."],
     ["\"Nothing will grow there,\" said {friend_name} the {friend}.", "{friend_name}, {a_friend}, laughed and said, \"You wait for nothing.\""],
     ["But {name} did not give up.", "But {name} only smiled and went on."],
     ["After many weeks a green leaf came out, and then {a_colour} flower.", "And one morning there stood a tall plant with {a_colour} flower."],
     ["{friend_name} came to see it and was very surprised.", "\"I was wrong,\" said {friend_name}. \"It is wonderful.\""],
     ["{name} gave {friend_name} a seed too.", "\"Good things need time,\" said {name}."]],
    [["{name} could not swim, and {he} was ashamed of it.", "All the others could sing, but {name} could not."],
     ["So {he} sat alone in the {place} and watched the clouds.", "So {he} always stayed at home."],
     ["One {weather} day {a_friend} named {friend_name} sat down beside {him}.", "Then {friend_name}, {a_friend}, came by."],
     ["\"Why are you so quiet?\" asked {friend_name}.", "\"Why do you sit here alone?\" asked {friend_name}."],
     ["{name} told the truth, and {friend_name} did not laugh.", "{name} told everything, and {friend_name} listened."],
     ["They practised every day, first a little and then a little more.", "\"We will learn it together,\" said {friend_name}, and so they did."],
     ["After a month {name} was the best of all.", "In summer {name} could do it, and all the others cheered."]],
    [["One {weather} morning {name} found {a_colour} {object} in the {place}.", "One day {a_colour} {object} lay in front of {his} door."],
     ["\"Whose is it?\" {he} thought.", "It was beautiful, and {he} wanted to keep it."],
     ["Then {he} heard someone cry.", "But then {he} saw {a_friend} who looked very sad."],
     ["It was {friend_name} the {friend}. \"I have lost my {object},\" said {friend_name}.", "\"I am {friend_name},\" said the {friend}. \"I have lost my {object}.\""],
     ["{name} gave it back at once.", "{name} held out the {object} and said, \"Here it is.\""],
     ["{friend_name} was so glad that {name} had to smile.", "{friend_name} jumped for joy."],
     ["\"Come to my house,\" said {friend_name}. \"There is {food} for us both.\"", "As a thank-you, {friend_name} shared a basket of {food}."]],
]

ASKS = [
    ("Tell me a story.", ()), ("Tell me a little story.", ()), ("Can you tell me a story?", ()), ("A story, please!", ()),
    ("Write a short story.", ()), ("I want to hear a story.", ()), ("Please tell me a bedtime story.", ()),
    ("Tell me a story about {a_animal}.", ("animal",)), ("Write a story about {a_animal}.", ("animal",)),
    ("Tell me a little story about {a_animal} named {name}.", ("animal", "name")),
    ("A story about {a_animal} named {name}, please.", ("animal", "name")), ("Tell me a story about {name}.", ("name",)),
    ("Can you tell a story about {a_animal} in a {place}?", ("animal", "place")), ("Tell me a story about {a_object}.", ("object",)),
    ("Write a short story about {a_animal}.", ("animal",)), ("Tell me a short story about {a_animal}.", ("animal",)), ("Write me a story about {a_animal}.", ("animal",)),
    ("Tell me a bedtime story about {a_animal} named {name}.", ("animal", "name")), ("Can you tell me a story about {a_animal}?", ("animal",)),
    ("Tell me a story about {a_animal} and {a_friend}.", ("animal", "friend")), ("Can you tell me a story about {a_animal} and {a_friend}?", ("animal", "friend")),
    ("Write a short story about {name} and {friend_name}.", ("name", "friend_name")),
    ("I want a story about {name} the {animal}.", ("name", "animal")), ("Story about {a_animal}", ("animal",)),
    ("Tell me a story that plays in a {place}.", ("place",)), ("Please write a story about {a_animal} and {a_object}.", ("animal", "object")),
]


def asked(rng):
    """(question, story, thought)"""
    ask, fixed = rng.choice(ASKS)
    hero = lambda: rng.choice(facts.ANIMALS if rng.random() < 0.7 else facts.HEROES)  # noqa: E731
    want = {"animal": hero(), "name": rng.choice(facts.NAMES), "place": rng.choice(facts.PLACES),
            "object": rng.choice(facts.OBJECTS)}
    want["friend_name"] = rng.choice([n for n in facts.NAMES if n != want["name"]])
    want["friend"] = next(x for x in iter(hero, None) if x != want["animal"])
    question = ask.format(a_animal=a(want["animal"]), a_friend=a(want["friend"]), a_object=a(want["object"]), **want)
    story = make(rng, {k: v for k, v in want.items() if k in fixed})
    return question, story["text"], f"A story about {story['name']} the {story['animal']}."

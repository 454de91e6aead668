"""Families of tools: how they may be called, how people ask for them, what they return and how that is told.

Everything with "held" in its name stays out of the training data and is what evaluate.py asks for.
"""
import facts
import more_asks

CONSONANTS = "b c d f g h k l m n p r s t v w z br dr gr kr pl st tr sh ch".split()
VOWELS = "a e i o u a e i o u ai ou ee".split()
ENDINGS = ["", "", "", "n", "r", "s", "l", "t", "m", "x"]


PIECES = " ".join(facts.NAMES + facts.CITIES + facts.WORDS + facts.LANGUAGES + facts.ANIMALS + list(facts.CAPITALS)).lower().split()


def made_up(rng, low=2, high=3):
    """A word that does not exist, so that copying it must be learnt: syllables, pieces of words, or any letters."""
    r = rng.random()
    if r < 0.35:
        words = [rng.choice(PIECES) for _ in range(rng.randint(low - 1, 2))] or [rng.choice(PIECES)]
        starts = [rng.randrange(max(1, len(w) - 3)) for w in words]
        return "".join(w[at:at + rng.randint(2, 6)] for w, at in zip(words, starts)).replace("'", "").replace("-", "")
    if r < 0.45:
        return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(2, 2 * high)))
    return "".join(rng.choice(CONSONANTS) + rng.choice(VOWELS) for _ in range(rng.randint(low, high))) + rng.choice(ENDINGS)


def pick(rng, held, known, unknown):
    return rng.choice(unknown if held else known)


# Each slot gives (what the user says, the argument's value).
def same(text):
    return text, text


def city(rng, held):
    return same(made_up(rng).capitalize() if rng.random() < 0.4 else pick(rng, held, facts.CITIES, facts.HELD_CITIES))


def person(rng, held):
    return same(made_up(rng).capitalize() if rng.random() < 0.4 else pick(rng, held, facts.NAMES, facts.HELD_NAMES))


def words(low, high, strange=0.2):
    def slot(rng, held):
        pool = facts.WORDS + facts.HELD_WORDS if held else facts.WORDS
        return same(" ".join(
            made_up(rng) if rng.random() < strange else rng.choice(pool) for _ in range(rng.randint(low, high))))
    return slot


def sentence(rng, held):
    who = person(rng, held)[0]
    a, b = words(1, 1)(rng, held)[0], words(1, 1)(rng, held)[0]
    return same(rng.choice([
        f"I will be {rng.randint(2, 59)} minutes late", f"please buy {a} and {b}", "happy birthday", "see you tomorrow",
        f"the {a} is in the {b}", f"call me when you see {who}", f"dinner is at {rng.randint(5, 9)}", "where are you",
        f"I like the {a} {b}", f"we need a {a}", "thank you for the gift", f"meet me at the {a}", "good luck",
        f"the {a} is ready", f"{who} is here", f"bring the {a}", "I am at home"]))


def integer(low, high):
    def slot(rng, held):
        n = rng.randint(low, high)
        return str(n), n
    return slot


def number(rng, held):
    if rng.random() < 0.3:
        n = round(rng.uniform(0, 200), rng.choice([1, 2]))
        return str(n), n
    return integer(0, rng.choice([20, 100, 1000]))(rng, held)


def time_of_day(rng, held):
    hour, minute = rng.randint(1, 12), rng.choice([0, 5, 10, 15, 20, 30, 40, 45, 50, rng.randint(0, 59)])
    return same(rng.choice([f"{hour}:{minute:02d}", f"{rng.randint(0, 23)}:{minute:02d}", f"{hour} am", f"{hour} pm",
                            f"{hour}:{minute:02d} pm"]))


def date(rng, held):
    return same(rng.choice([rng.choice(facts.DAYS), f"{rng.choice(facts.MONTHS)} {rng.randint(1, 28)}",
                            f"20{rng.randint(24, 35)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}", "tomorrow"]))


def choice_of(known, unknown=None):
    def slot(rng, held):
        if not held and rng.random() < 0.2:
            strange = made_up(rng)
            return same(strange.upper()[:3] if known[0].isupper() else strange.capitalize() if known[0][0].isupper() else strange)
        return same(pick(rng, held, known, unknown or known))
    return slot


def mapped(*pairs):
    return lambda rng, held: rng.choice(pairs)


def code(rng, held):
    return same("".join(rng.choice("ABCDEFGHJKLMNPRSTUVWXYZ") for _ in range(rng.randint(2, 4)))
                + "".join(rng.choice("0123456789") for _ in range(rng.randint(2, 5))))


def symbol(rng, held):
    return same("".join(rng.choice("ABCDEFGHIJKLMNOPRSTUVWXYZ") for _ in range(rng.randint(3, 4))))


def file_name(rng, held):
    return same(words(1, 1)(rng, held)[0] + rng.choice(["", str(rng.randint(1, 99))])
                + rng.choice([".txt", ".md", ".csv", ".json", ".py"]))


def food(rng, held):
    if not held and rng.random() < 0.3:
        return same(rng.choice([made_up(rng), rng.choice(facts.WORDS)]) + " " + rng.choice("soup cake pie bread salad stew jam rice curry".split()))
    return same(pick(rng, held, facts.FOODS, facts.HELD_FOODS))


class Param:
    """One parameter: names (the last one held out), JSON type, slot, descriptions, values where it is an enum."""

    def __init__(self, names, slot, kind="string", about=(), enum=None):
        self.names, self.slot, self.kind, self.about, self.enum = names.split(), slot, kind, list(about), enum


class Family:
    """group: tools that could be mistaken for each other; they are never offered together."""

    def __init__(self, group, names, about, params, asks, held_asks, result, tell):
        self.group, self.names, self.about, self.params = group, names.split(), about, params
        self.held_asks = more_asks.HELD.get(group, held_asks)
        self.asks = [ask for ask in asks + more_asks.EXTRA[group] if ask not in self.held_asks]
        self.result, self.tell = result, tell


CITY = Param("city location place town", city, about=["The city", "Name of the city", "City name", "The city and state", "The location", "A place", "City or town"])
ZONE = Param("city location timezone place time_zone town", city, about=["The city", "Name of the city", "Time zone", "A place"])
UNIT = Param("unit units scale", mapped(("Celsius", "celsius"), ("Fahrenheit", "fahrenheit")),
             about=["Unit of temperature"], enum=["celsius", "fahrenheit"])
SKIES = ["sunny", "cloudy", "rainy", "windy", "snowy", "foggy"]

FAMILIES = [
    Family("weather", "weather fetch_weather weather_report current_weather city_weather check_weather get_weather get_current_weather weather_lookup",
           ["Get the weather of a city", "Current weather in a city", "Tells the weather somewhere"],
           {"city": CITY, "unit": UNIT},
           ["What is the weather in {city}?", "How is the weather in {city}?", "Weather in {city}", "Is it raining in {city}?",
            "Tell me the weather in {city}, please.", "What is the weather like in {city} today?",
            "What is the weather in {city} in {unit}?", "How warm is it in {city} in {unit}?", "Do I need a coat in {city}?", "Check the weather in {city}.", "Give me the weather in {city}.",
            "Weather in {city} in {unit}, please", "I want to know the weather in {city}."],
           ["What's the weather like in {city}?", "Can you check the weather in {city}?", "Give me the weather in {city} in {unit}."],
           lambda a, r: {"temperature": r.randint(-9, 38), "sky": r.choice(SKIES)},
           lambda a, v: f"It is {v['temperature']} degrees and {v['sky']} in {a['city']}."),
    Family("time", "time_in get_time local_time world_clock clock current_time",
           ["Get the time in a city", "Current local time of a city"], {"city": ZONE},
           ["What time is it in {city}?", "Tell me the time in {city}.", "Time in {city}?", "How late is it in {city}?",
            "What is the local time in {city}?"],
           ["Can you tell me what time it is in {city}?", "Current time in {city}, please"],
           lambda a, r: {"time": f"{r.randint(0, 23)}:{r.randint(0, 59):02d}"}, lambda a, v: f"It is {v['time']} in {a['city']}."),
    Family("sum", "sum add_numbers plus addition sum_of add", ["Add two numbers", "Sum of two numbers", "Adds numbers"],
           {"a": Param("a x first first_number number1", number, "number", ["First number"]),
            "b": Param("b y second second_number number2", number, "number", ["Second number"])},
           ["What is {a} + {b}?", "Add {a} and {b}.", "{a} plus {b}", "How much is {a} plus {b}?", "Calculate {a} + {b}.",
            "What is the sum of {a} and {b}?", "{a} + {b}", "Compute {a} plus {b}."],
           ["Can you add {a} and {b}?", "Calculate {a} plus {b}."],
           lambda a, r: {"result": round(a["a"] + a["b"], 2)}, lambda a, v: f"{a['a']} + {a['b']} = {v['result']}."),
    Family("times", "multiply times product multiply_numbers product_of", ["Multiply two numbers", "Product of two numbers"],
           {"a": Param("a x first factor1", number, "number", ["First number"]),
            "b": Param("b y second factor2", number, "number", ["Second number"])},
           ["What is {a} times {b}?", "Multiply {a} by {b}.", "{a} * {b}", "How much is {a} times {b}?", "What is {a} x {b}?", "Compute {a} times {b}."],
           ["Can you multiply {a} by {b}?", "Calculate {a} times {b}."],
           lambda a, r: {"result": round(a["a"] * a["b"], 2)}, lambda a, v: f"{a['a']} times {a['b']} is {v['result']}."),
    Family("search", "search find lookup search_web query_engine web_search", ["Search the web", "Look something up on the internet"],
           {"query": Param("query q text terms keywords", words(1, 4), about=["What to search for", "Search terms"])},
           ["Search for {query}.", "Look up {query}.", "Search the web for {query}", "Find something about {query}.",
            "I want to know more about {query}. Search for it.", "google {query}", "Please look up {query}"],
           ["Can you search for {query}?", "Do a web search for {query}."],
           lambda a, r: {"title": f"All about {a['query']}", "hits": r.randint(2, 90)},
           lambda a, v: f"I found {v['hits']} pages. The first one is: {v['title']}."),
    Family("alarm", "set_alarm alarm wake_me create_alarm new_alarm add_alarm", ["Set an alarm", "Wakes the user at a time"],
           {"time": Param("time at when alarm_time", time_of_day, about=["Time of the alarm"]),
            "label": Param("label name title note", words(1, 2), about=["What the alarm is for"])},
           ["Set an alarm for {time}.", "Wake me up at {time}.", "Wake me at {time}, please.", "I need an alarm at {time}.",
            "Set an alarm at {time} called {label}.", "Alarm at {time}", "Set an alarm for {time} with the label {label}."],
           ["Can you wake me at {time}?", "Please set an alarm for {time}."],
           lambda a, r: {"status": "ok"}, lambda a, v: f"Your alarm is set for {a['time']}."),
    Family("timer", "set_timer timer start_timer countdown begin_timer", ["Start a timer", "A countdown of some minutes"],
           {"minutes": Param("minutes duration mins length", integer(1, 90), "integer", ["How many minutes"])},
           ["Set a timer for {minutes} minutes.", "Start a timer of {minutes} minutes.", "Timer: {minutes} minutes",
            "Remind me in {minutes} minutes.", "Count down {minutes} minutes."],
           ["Can you set a timer for {minutes} minutes?", "I need a timer for {minutes} minutes."],
           lambda a, r: {"status": "started"}, lambda a, v: f"The timer runs for {a['minutes']} minutes."),
    Family("message", "send_message message text_person send_text write_message", ["Send a message to someone", "Sends a text message"],
           {"to": Param("to recipient contact person receiver", person, about=["Who gets the message"]),
            "text": Param("text message body content", sentence, about=["What the message says"])},
           ["Send a message to {to}: {text}", "Tell {to}: {text}", "Text {to}: {text}", "Write to {to} that {text}", "Let {to} know: {text}",
            "Send {to} this message: {text}", "Message {to} and say: {text}"],
           ["Can you send {to} a message? {text}", "Send a text to {to}: {text}"],
           lambda a, r: {"status": "sent"}, lambda a, v: f"The message to {a['to']} is sent."),
    Family("email", "send_email email write_email mail new_email send_mail", ["Send an email", "Writes an email to someone"],
           {"to": Param("to recipient address receiver", person, about=["Who gets the email"]),
            "subject": Param("subject title about topic", words(1, 3), about=["Subject of the email"])},
           ["Send an email to {to} about {subject}.", "Email {to} about {subject}.", "Write {to} an email with the subject {subject}.", "Mail to {to}: {subject}",
            "Send {to} an email. The subject is {subject}.", "Send an email to {to} with the subject {subject}."],
           ["Can you send an email to {to} about {subject}?", "I want to email {to} about {subject}."],
           lambda a, r: {"status": "sent"}, lambda a, v: f"The email to {a['to']} is sent."),
    Family("call", "call phone call_person dial ring", ["Call someone on the phone", "Starts a phone call"],
           {"name": Param("name contact person who", person, about=["Who to call"])},
           ["Call {name}.", "Phone {name}, please.", "I want to talk to {name}. Call now.", "Give {name} a call.", "Ring {name}.", "Start a call with {name}."],
           ["Can you call {name}?", "Please start a call with {name}."],
           lambda a, r: {"status": "calling"}, lambda a, v: f"I am calling {a['name']}."),
    Family("music", "play_music play play_song start_music put_on", ["Play a song", "Plays music"],
           {"song": Param("song title track music", words(1, 3), about=["Title of the song"]),
            "artist": Param("artist band singer performer", person, about=["Who sings it"])},
           ["Play {song}.", "Play the song {song}.", "I want to hear {song}.", "Play {song} by {artist}.", "Put on {song} by {artist}, please.",
            "Play the song {song} by {artist}."],
           ["Can you play {song}?", "Please play {song} by {artist}."],
           lambda a, r: {"status": "playing"}, lambda a, v: f"Now playing {a['song']}."),
    Family("translate", "translate translate_text translation to_language do_translation", ["Translate a text", "Translates words into a language"],
           {"text": Param("text phrase words sentence", words(1, 3), about=["What to translate"]),
            "language": Param("language target target_language to", choice_of(facts.LANGUAGES, facts.HELD_LANGUAGES), about=["Language to translate into"])},
           ["Translate {text} into {language}.", "Translate {text} to {language}.", "What is {text} in {language}?",
            "How do you say {text} in {language}?", "Put {text} into {language}, please."],
           ["Can you translate {text} into {language}?", "Tell me how to say {text} in {language}."],
           lambda a, r: {"translation": made_up(r) + " " + made_up(r)},
           lambda a, v: f"In {a['language']} that is: {v['translation']}."),
    Family("money", "convert_currency exchange currency convert_money change_money", ["Convert money between currencies", "Currency converter"],
           {"amount": Param("amount value sum money", number, "number", ["How much money"]),
            "source": Param("from source from_currency base", choice_of(facts.CURRENCIES, facts.HELD_CURRENCIES), about=["Currency to convert from"]),
            "target": Param("to target to_currency quote", choice_of(facts.CURRENCIES, facts.HELD_CURRENCIES), about=["Currency to convert to"])},
           ["Convert {amount} {source} to {target}.", "How much is {amount} {source} in {target}?", "{amount} {source} in {target}",
            "Change {amount} {source} into {target}.", "What are {amount} {source} in {target}?"],
           ["Please convert {amount} {source} into {target}.", "I have {amount} {source}. How much is that in {target}?"],
           lambda a, r: {"amount": round(a["amount"] * r.uniform(0.2, 4), 2)},
           lambda a, v: f"{a['amount']} {a['source']} are {v['amount']} {a['target']}."),
    Family("event", "create_event add_event new_event schedule calendar_add", ["Add an event to the calendar", "Creates a calendar entry"],
           {"title": Param("title name event what", words(1, 2), about=["Name of the event"]),
            "date": Param("date day when on", date, about=["Day of the event"]),
            "time": Param("time at start start_time", time_of_day, about=["When it starts"])},
           ["Add {title} to my calendar on {date}.", "Schedule {title} for {date} at {time}.", "Put {title} into my calendar for {date} at {time}.",
            "Create an event {title} on {date} at {time}.", "I have {title} on {date}. Add it to my calendar."],
           ["Please schedule {title} on {date} at {time}.", "New calendar entry: {title}, {date}, {time}"],
           lambda a, r: {"status": "created"}, lambda a, v: f"{a['title']} is in your calendar for {a['date']}."),
    Family("light", "set_light light switch_light lamp control_light", ["Switch a light on or off", "Controls the lights of a room"],
           {"room": Param("room where area zone", choice_of(facts.ROOMS, facts.HELD_ROOMS), about=["Which room"]),
            "on": Param("on state turned_on power", mapped(("on", True), ("off", False)), "boolean", ["Whether the light is on"])},
           ["Turn {on} the light in the {room}.", "Turn the {room} light {on}.", "Switch {on} the {room} light.", "Light {on} in the {room}",
            "Switch the light in the {room} {on}, please.", "Lights {on} in the {room}, please.", "Turn {on} the lights in the {room}."],
           ["Can you turn {on} the lights in the {room}?", "Switch the {room} lights {on}."],
           lambda a, r: {"status": "done"}, lambda a, v: f"The light in the {a['room']} is {'on' if a['on'] else 'off'}."),
    Family("heat", "set_temperature heating thermostat set_heating heat", ["Set the temperature of a room", "Controls the heating"],
           {"room": Param("room where area zone", choice_of(facts.ROOMS, facts.HELD_ROOMS), about=["Which room"]),
            "degrees": Param("degrees temperature value target", integer(12, 29), "integer", ["How warm it shall be"])},
           ["Set the {room} to {degrees} degrees.", "Heat the {room} to {degrees} degrees.", "Make it {degrees} degrees in the {room}.",
            "Set the temperature in the {room} to {degrees}.", "I want {degrees} degrees in the {room}."],
           ["Please heat the {room} to {degrees} degrees.", "Can you set the {room} to {degrees} degrees?"],
           lambda a, r: {"status": "ok"}, lambda a, v: f"The {a['room']} is set to {a['degrees']} degrees."),
    Family("table", "book_table reserve_table reservation reserve table_booking", ["Book a table in a restaurant", "Makes a reservation"],
           {"restaurant": Param("restaurant place name venue", person, about=["Name of the restaurant"]),
            "people": Param("people guests persons party_size", integer(1, 12), "integer", ["How many people"]),
            "time": Param("time at when hour", time_of_day, about=["When to come"])},
           ["Book a table at {restaurant} for {people} people at {time}.", "Reserve a table for {people} at {restaurant} at {time}.",
            "Table for {people} at {restaurant}, {time}", "I want to eat at {restaurant} at {time}, {people} people.", "Get us a table at {restaurant} at {time} for {people} people."],
           ["Can you book a table for {people} at {restaurant} at {time}?", "I need a table at {restaurant} at {time} for {people} people."],
           lambda a, r: {"code": code(r, False)[0]}, lambda a, v: f"Your table at {a['restaurant']} is booked. The code is {v['code']}."),
    Family("flight", "find_flights flights search_flights flight_search list_flights", ["Find flights between two cities", "Flight search"],
           {"origin": Param("origin from start departure", city, about=["Where to start"]),
            "destination": Param("destination to goal arrival", city, about=["Where to fly"]),
            "date": Param("date day when on", date, about=["Day of the flight"])},
           ["Find a flight from {origin} to {destination}.", "Flights from {origin} to {destination} on {date}", "I want to fly from {origin} to {destination} on {date}.",
            "How can I fly from {origin} to {destination}?", "Is there a flight from {origin} to {destination} on {date}?"],
           ["Show me flights from {origin} to {destination}.", "I need a flight from {origin} to {destination} on {date}."],
           lambda a, r: {"flight": code(r, False)[0], "price": r.randint(49, 900)},
           lambda a, v: f"Flight {v['flight']} goes from {a['origin']} to {a['destination']} for {v['price']} euros."),
    Family("distance", "get_distance distance how_far distance_between measure_distance", ["Distance between two cities", "How far two places are apart"],
           {"start": Param("start from origin place1", city, about=["First city"]),
            "end": Param("end to destination place2", city, about=["Second city"])},
           ["How far is it from {start} to {end}?", "What is the distance between {start} and {end}?", "Distance from {start} to {end}",
            "How many kilometres are there between {start} and {end}?", "How far is {end} from {start}?"],
           ["Tell me the distance from {start} to {end}.", "How many kilometres is it from {start} to {end}?"],
           lambda a, r: {"km": r.randint(20, 9000)}, lambda a, v: f"It is {v['km']} kilometres from {a['start']} to {a['end']}."),
    Family("stock", "get_stock_price stock_price stock share_price quote", ["Price of a stock", "Get the current price of a share"],
           {"symbol": Param("symbol ticker stock share", symbol, about=["Symbol of the stock"])},
           ["What is the price of {symbol}?", "How is {symbol} doing?", "Stock price of {symbol}", "How much is a share of {symbol}?", "What does {symbol} cost right now?"],
           ["Give me the stock price of {symbol}.", "What is the price of a share of {symbol}?"],
           lambda a, r: {"price": round(r.uniform(2, 900), 2)}, lambda a, v: f"{a['symbol']} is at {v['price']}."),
    Family("define", "define_word define dictionary meaning explain_word", ["Meaning of a word", "Look a word up in the dictionary"],
           {"word": Param("word term entry lemma", words(1, 1, 0.5), about=["The word"])},
           ["What does {word} mean?", "Define {word}.", "What is the meaning of {word}?", "Explain the word {word}.", "Definition of {word}"],
           ["Please define the word {word}.", "What does the word {word} mean?"],
           lambda a, r: {"meaning": f"a kind of {r.choice(facts.WORDS)}"}, lambda a, v: f"{a['word']} means: {v['meaning']}."),
    Family("list", "add_to_list add_item list_add put_on_list append_item", ["Add an item to a list", "Puts something on a list"],
           {"item": Param("item thing entry product", words(1, 2), about=["What to add"]),
            "list": Param("list list_name which target", mapped(*[same(f"{w}") for w in ("shopping", "packing", "todo", "wish", "reading")]), about=["Which list"])},
           ["Add {item} to my {list} list.", "Put {item} on the {list} list.", "{item} on my {list} list, please.",
            "Write {item} on my {list} list.", "My {list} list needs {item}."],
           ["Can you put {item} on my {list} list?", "{item} goes on the {list} list."],
           lambda a, r: {"items": r.randint(1, 20)}, lambda a, v: f"{a['item']} is on your {a['list']} list."),
    Family("news", "get_news news headlines latest_news read_news", ["Get the news about a topic", "Latest headlines"],
           {"topic": Param("topic subject about theme", words(1, 2), about=["What the news is about"])},
           ["What is new about {topic}?", "News about {topic}", "Show me the news about {topic}.", "Any headlines about {topic}?"],
           ["Give me the latest news on {topic}.", "What are the headlines about {topic}?"],
           lambda a, r: {"headline": f"The {r.choice(facts.WORDS)} {r.choice(facts.WORDS)} is back"},
           lambda a, v: f"The latest headline is: {v['headline']}."),
    Family("dice", "roll_dice dice throw_dice roll cast_dice", ["Roll dice", "Throws some dice"],
           {"count": Param("count number dice how_many", integer(1, 9), "integer", ["How many dice"]),
            "sides": Param("sides faces max side_count", mapped(*[(str(n), n) for n in (4, 6, 8, 10, 12, 20)]), "integer", ["Sides of each die"])},
           ["Roll {count} dice.", "Roll {count} dice with {sides} sides.", "Throw {count} dice with {sides} sides each.", "Throw {count} dice, please."],
           ["Please roll {count} dice.", "I need a roll of {count} dice with {sides} sides."],
           lambda a, r: {"total": r.randint(1, 60)}, lambda a, v: f"The dice show {v['total']}."),
    Family("random", "random_number random pick_number draw_number number_between", ["Draw a random number", "Random number in a range"],
           {"low": Param("low min from minimum", integer(0, 50), "integer", ["Smallest number"]),
            "high": Param("high max to maximum", integer(51, 999), "integer", ["Largest number"])},
           ["Give me a random number between {low} and {high}.", "Pick a number from {low} to {high}.", "Random number between {low} and {high}", "Draw a random number from {low} to {high}.", "Choose a number between {low} and {high}."],
           ["Can you pick a number between {low} and {high}?", "Give me a number from {low} to {high}."],
           lambda a, r: {"number": r.randint(a["low"], a["high"])}, lambda a, v: f"The number is {v['number']}."),
    Family("recipe", "find_recipe recipe get_recipe how_to_cook cook_book", ["Find a recipe", "How to cook a dish"],
           {"dish": Param("dish food meal name", food, about=["What to cook"])},
           ["How do I make {dish}?", "Find a recipe for {dish}.", "I want to cook {dish}.", "Recipe for {dish}", "How can I cook {dish}?", "Give me a recipe for {dish}."],
           ["Can you find a recipe for {dish}?", "How do I cook {dish}?"],
           lambda a, r: {"minutes": r.randint(10, 120), "first_step": f"cut the {r.choice(facts.WORDS)}"},
           lambda a, v: f"{a['dish'].capitalize()} takes {v['minutes']} minutes. First, {v['first_step']}."),
    Family("order", "order_food order deliver_food order_meal buy_food", ["Order food", "Orders a dish for delivery"],
           {"dish": Param("dish item food meal", food, about=["What to order"]),
            "count": Param("count quantity number portions", integer(1, 9), "integer", ["How many portions"])},
           ["Order {count} times {dish}.", "I want to order {dish}, {count} portions.", "Order {count} portions of {dish}, please.", "Get me {count} portions of {dish}."],
           ["Can you order {count} portions of {dish}?", "I want {count} portions of {dish}. Order it."],
           lambda a, r: {"minutes": r.randint(10, 60)}, lambda a, v: f"Your {a['dish']} arrives in {v['minutes']} minutes."),
    Family("people", "get_population population count_people inhabitants people_in", ["Population of a city", "How many people live in a city"],
           {"city": CITY},
           ["How many people live in {city}?", "What is the population of {city}?", "Population of {city}", "How big is {city}?", "How many inhabitants does {city} have?"],
           ["Tell me the population of {city}.", "Do you know how many people live in {city}?"],
           lambda a, r: {"population": r.randint(20000, 9000000)}, lambda a, v: f"{v['population']} people live in {a['city']}."),
    Family("read", "read_file open_file get_file load_file show_file", ["Read a file", "Returns what a file holds"],
           {"path": Param("path file name filename", file_name, about=["Name of the file"])},
           ["Read the file {path}.", "Tell me what {path} says.", "Read {path}.", "What is in {path}?", "Show me {path}.", "Open {path}, please."],
           ["Can you read {path}?", "What does the file {path} say?"],
           lambda a, r: {"text": f"{r.choice(facts.WORDS)} {r.choice(facts.WORDS)} {r.choice(facts.WORDS)}"},
           lambda a, v: f"The file {a['path']} says: {v['text']}."),
    Family("delete", "delete_file remove_file erase_file remove_item unlink", ["Delete a file", "Removes a file for good"],
           {"path": Param("path file name filename", file_name, about=["Name of the file"])},
           ["Delete {path}.", "Delete the file {path}.", "Remove {path}, please.", "I do not need {path} any more. Delete it.", "Get rid of {path}.", "Erase {path}."],
           ["Can you remove the file {path}?", "Delete the file called {path}, please."],
           lambda a, r: {"status": "deleted"}, lambda a, v: f"The file {a['path']} is deleted."),
    Family("note", "create_note note write_note save_note take_note", ["Save a note", "Writes a note down"],
           {"text": Param("text note content body", sentence, about=["What the note says"])},
           ["Make a note: {text}", "Note: {text}", "Remember this: {text}", "Take a note: {text}", "Write this down: {text}", "Save a note that says: {text}"],
           ["Can you make a note? {text}", "Write a note that says: {text}"],
           lambda a, r: {"status": "saved"}, lambda a, v: "I have saved the note."),
    Family("parcel", "track_package track parcel_status tracking where_is_parcel", ["Where a parcel is", "Track a package by its number"],
           {"number": Param("number code tracking_number parcel_id", code, about=["Number of the parcel"])},
           ["Where is my parcel {number}?", "Track {number}.", "Track the package {number}.", "What is the status of parcel {number}?", "When does parcel {number} arrive?"],
           ["Can you track my package {number}?", "Where is the package {number}?"],
           lambda a, r: {"place": r.choice(facts.CITIES), "days": r.randint(1, 9)},
           lambda a, v: f"Your parcel is in {v['place']} and arrives in {v['days']} days."),
    Family("eat", "find_restaurant restaurants restaurant_search places_to_eat eat_out", ["Find a restaurant in a city", "Search for restaurants"],
           {"cuisine": Param("cuisine kind style food", choice_of("Italian Indian Chinese Greek French Mexican Thai Turkish".split(), "Spanish Korean".split()), about=["Kind of food"]),
            "city": CITY},
           ["Find an {cuisine} restaurant in {city}.", "Where can I eat {cuisine} food in {city}?", "{cuisine} restaurants in {city}",
            "I want {cuisine} food in {city}."],
           ["Is there good {cuisine} food in {city}?", "Show me {cuisine} restaurants in {city}."],
           lambda a, r: {"name": r.choice(facts.NAMES) + "'s " + r.choice(["Kitchen", "Table", "Garden"])},
           lambda a, v: f"Try {v['name']} in {a['city']}."),
    Family("pay", "pay send_money transfer transfer_money wire_money", ["Send money to someone", "Transfers money"],
           {"amount": Param("amount sum value money", number, "number", ["How much"]),
            "to": Param("to recipient person receiver", person, about=["Who gets the money"])},
           ["Send {amount} euros to {to}.", "Pay {to} {amount} euros.", "I owe {to} {amount} euros. Pay it.", "Transfer {amount} euros to {to}.", "Give {to} {amount} euros."],
           ["Can you pay {amount} euros to {to}?", "I want to send {amount} euros to {to}."],
           lambda a, r: {"status": "paid"}, lambda a, v: f"{a['to']} gets {a['amount']} euros."),
    Family("app", "open_app launch start_app run_app open_program", ["Open an app", "Starts a program"],
           {"name": Param("name app app_name program", words(1, 2, 0.3), about=["Name of the app"])},
           ["Open {name}.", "Start the app {name}.", "Launch {name}.", "Open the {name} app, please."],
           ["Please start {name}.", "Can you open the {name} app?"],
           lambda a, r: {"status": "open"}, lambda a, v: f"{a['name']} is open."),
    Family("volume", "set_volume volume change_volume sound_level loudness", ["Set the volume", "How loud the sound is"],
           {"level": Param("level volume percent value", integer(0, 100), "integer", ["From 0 to 100"])},
           ["Set the volume to {level}.", "Set the sound to {level} percent.", "Change the volume to {level}.", "Volume {level}", "Make the sound {level} percent loud.", "Turn the volume to {level} percent."],
           ["Can you set the sound to {level}?", "Change the sound to {level} percent, please."],
           lambda a, r: {"status": "ok"}, lambda a, v: f"The volume is {a['level']} percent."),
    Family("book", "find_book book_search search_books library find_novel", ["Find a book", "Search the library"],
           {"title": Param("title name book query", words(1, 3), about=["Title of the book"]),
            "author": Param("author writer by written_by", person, about=["Who wrote it"])},
           ["Find the book {title}.", "Do you have the book {title} by {author}?", "I look for the book {title} by {author}.", "Is the book {title} in the library?"],
           ["Please find the book {title}.", "Where is the book {title} by {author}?"],
           lambda a, r: {"shelf": r.randint(1, 99)}, lambda a, v: f"{a['title']} is on shelf {v['shelf']}."),
]

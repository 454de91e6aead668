"""Word lists and small facts that the demo models' data is made of. All written by hand for this purpose."""

CAPITALS = {
    "Afghanistan": "Kabul", "Albania": "Tirana", "Algeria": "Algiers", "Andorra": "Andorra la Vella",
    "Angola": "Luanda", "Antigua and Barbuda": "Saint John's", "Argentina": "Buenos Aires", "Armenia": "Yerevan",
    "Australia": "Canberra", "Austria": "Vienna", "Azerbaijan": "Baku", "Bahrain": "Manama", "Bangladesh": "Dhaka",
    "Barbados": "Bridgetown", "Belarus": "Minsk", "Belgium": "Brussels", "Belize": "Belmopan",
    "Benin": "Porto-Novo", "Bhutan": "Thimphu", "Bolivia": "Sucre", "Bosnia and Herzegovina": "Sarajevo",
    "Botswana": "Gaborone", "Brazil": "Brasília", "Brunei": "Bandar Seri Begawan", "Bulgaria": "Sofia",
    "Burkina Faso": "Ouagadougou", "Burundi": "Gitega", "Cambodia": "Phnom Penh", "Cameroon": "Yaoundé",
    "Canada": "Ottawa", "Cape Verde": "Praia", "Chad": "N'Djamena", "Chile": "Santiago", "China": "Beijing",
    "Colombia": "Bogotá", "Costa Rica": "San José", "Croatia": "Zagreb", "Cuba": "Havana", "Cyprus": "Nicosia",
    "Czechia": "Prague", "Denmark": "Copenhagen", "Djibouti": "Djibouti", "Dominica": "Roseau",
    "Ecuador": "Quito", "Egypt": "Cairo", "El Salvador": "San Salvador", "Equatorial Guinea": "Malabo",
    "Eritrea": "Asmara", "Estonia": "Tallinn", "Eswatini": "Mbabane", "Ethiopia": "Addis Ababa", "Fiji": "Suva",
    "Finland": "Helsinki", "France": "Paris", "Gabon": "Libreville", "Georgia": "Tbilisi", "Germany": "Berlin",
    "Ghana": "Accra", "Greece": "Athens", "Grenada": "Saint George's", "Guatemala": "Guatemala City",
    "Guinea": "Conakry", "Guinea-Bissau": "Bissau", "Guyana": "Georgetown", "Haiti": "Port-au-Prince",
    "Honduras": "Tegucigalpa", "Hungary": "Budapest", "Iceland": "Reykjavik", "India": "New Delhi",
    "Indonesia": "Jakarta", "Iran": "Tehran", "Iraq": "Baghdad", "Ireland": "Dublin", "Israel": "Jerusalem",
    "Italy": "Rome", "Jamaica": "Kingston", "Japan": "Tokyo", "Jordan": "Amman", "Kazakhstan": "Astana",
    "Kenya": "Nairobi", "Kiribati": "Tarawa", "Kuwait": "Kuwait City", "Kyrgyzstan": "Bishkek",
    "Laos": "Vientiane", "Latvia": "Riga", "Lebanon": "Beirut", "Lesotho": "Maseru", "Liberia": "Monrovia",
    "Libya": "Tripoli", "Liechtenstein": "Vaduz", "Lithuania": "Vilnius", "Luxembourg": "Luxembourg",
    "Madagascar": "Antananarivo", "Malawi": "Lilongwe", "Malaysia": "Kuala Lumpur", "Maldives": "Malé",
    "Mali": "Bamako", "Malta": "Valletta", "Mauritania": "Nouakchott", "Mauritius": "Port Louis",
    "Mexico": "Mexico City", "Micronesia": "Palikir", "Moldova": "Chișinău", "Monaco": "Monaco",
    "Mongolia": "Ulaanbaatar", "Montenegro": "Podgorica", "Morocco": "Rabat", "Mozambique": "Maputo",
    "Myanmar": "Naypyidaw", "Namibia": "Windhoek", "Nauru": "Yaren", "Nepal": "Kathmandu",
    "New Zealand": "Wellington", "Nicaragua": "Managua", "Niger": "Niamey", "Nigeria": "Abuja",
    "North Korea": "Pyongyang", "North Macedonia": "Skopje", "Norway": "Oslo", "Oman": "Muscat",
    "Pakistan": "Islamabad", "Palau": "Ngerulmud", "Panama": "Panama City", "Papua New Guinea": "Port Moresby",
    "Paraguay": "Asunción", "Peru": "Lima", "Poland": "Warsaw", "Portugal": "Lisbon", "Qatar": "Doha",
    "Romania": "Bucharest", "Russia": "Moscow", "Rwanda": "Kigali", "Saint Lucia": "Castries", "Samoa": "Apia",
    "San Marino": "San Marino", "Saudi Arabia": "Riyadh", "Senegal": "Dakar", "Serbia": "Belgrade",
    "Seychelles": "Victoria", "Sierra Leone": "Freetown", "Singapore": "Singapore", "Slovakia": "Bratislava",
    "Slovenia": "Ljubljana", "Solomon Islands": "Honiara", "Somalia": "Mogadishu", "South Africa": "Pretoria",
    "South Korea": "Seoul", "South Sudan": "Juba", "Spain": "Madrid", "Sri Lanka": "Sri Jayawardenepura Kotte",
    "Sudan": "Khartoum", "Suriname": "Paramaribo", "Sweden": "Stockholm", "Switzerland": "Bern",
    "Syria": "Damascus", "Taiwan": "Taipei", "Tajikistan": "Dushanbe", "Tanzania": "Dodoma",
    "Thailand": "Bangkok", "Togo": "Lomé", "Tonga": "Nuku'alofa", "Trinidad and Tobago": "Port of Spain",
    "Tunisia": "Tunis", "Turkey": "Ankara", "Turkmenistan": "Ashgabat", "Tuvalu": "Funafuti", "Uganda": "Kampala",
    "Ukraine": "Kyiv", "Uruguay": "Montevideo", "Uzbekistan": "Tashkent", "Vanuatu": "Port Vila",
    "Venezuela": "Caracas", "Vietnam": "Hanoi", "Yemen": "Sana'a", "Zambia": "Lusaka", "Zimbabwe": "Harare",
    "the United States": "Washington", "the United Kingdom": "London", "the Netherlands": "Amsterdam",
    "the Philippines": "Manila", "the Bahamas": "Nassau", "the Gambia": "Banjul",
    "the United Arab Emirates": "Abu Dhabi", "the Dominican Republic": "Santo Domingo",
    "the Central African Republic": "Bangui", "the Ivory Coast": "Yamoussoukro", "the Comoros": "Moroni",
    "the Marshall Islands": "Majuro",
}

GIRLS = """Ada Alice Amira Anna Bella Carla Clara Dana Elena Ella Emma Eva Fatima Freya Grace Hana Hannah Ida Ines Iris
Jana Julia Kira Lara Laura Lena Lily Lina Lucy Luna Maria Marta Maya Mia Mila Mina Nadia Nina Nora Olivia Paula Rosa
Ruth Sara Sofia Tara Thea Vera Yuki Zoe""".split()
BOYS = """Adam Alex Amir Andre Ben Bruno Carl Chen Daniel David Diego Elias Emil Erik Felix Finn Georg Hugo Ivan Jack
Jakob Jan Jonas Juan Kai Karim Kenji Leo Liam Luca Lukas Marco Mark Max Milo Nico Noah Oliver Omar Oscar Otto Paul
Pedro Peter Ravi Sam Simon Theo Tim Tom Victor Yusuf""".split()
NAMES = GIRLS + BOYS
# Names that no training conversation holds.
HELD_NAMES = "Agnes Balthazar Cleo Dmitri Esther Fabian Gwen Hector Imani Joris Katya Lorenzo Mabel Nestor Odette".split()

CITIES = """Amsterdam|Ankara|Antwerp|Athens|Auckland|Bangkok|Barcelona|Basel|Beijing|Berlin|Bilbao|Bologna|Bordeaux|Boston|
Bremen|Brisbane|Bristol|Brussels|Bucharest|Budapest|Buenos Aires|Cairo|Calgary|Cape Town|Casablanca|Chennai|Chicago|
Cologne|Copenhagen|Cork|Dakar|Dallas|Delhi|Denver|Dresden|Dubai|Dublin|Edinburgh|Florence|Frankfurt|Geneva|Genoa|Ghent|
Glasgow|Graz|Hamburg|Hanoi|Havana|Helsinki|Hong Kong|Houston|Istanbul|Jakarta|Johannesburg|Kiel|Kolkata|Krakow|Kyoto|
Lagos|Leeds|Leipzig|Lille|Lima|Lisbon|Liverpool|London|Los Angeles|Lyon|Madrid|Malmö|Manchester|Manila|Marseille|
Melbourne|Mexico City|Miami|Milan|Montreal|Moscow|Mumbai|Munich|Nairobi|Nantes|Naples|New York|Nice|Osaka|Oslo|Ottawa|
Palermo|Paris|Perth|Philadelphia|Phoenix|Porto|Prague|Quito|Rabat|Riga|Rome|Rotterdam|San Diego|San Francisco|Santiago|
São Paulo|Seattle|Seoul|Seville|Shanghai|Singapore|Sofia|Stockholm|Stuttgart|Sydney|Taipei|Tallinn|Tokyo|Toronto|
Toulouse|Tunis|Turin|Utrecht|Valencia|Vancouver|Venice|Vienna|Vilnius|Warsaw|Washington|Zagreb|Zürich"""
CITIES = CITIES.replace("\n", "").split("|")
HELD_CITIES = """Aarhus|Bergen|Cardiff|Darwin|Essen|Fukuoka|Gdansk|Hobart|Innsbruck|Jeddah|Karachi|Lausanne|Mombasa|
Nagoya|Odense|Pisa|Quebec|Recife|Salzburg|Tampere|Uppsala|Verona|Winnipeg|Yokohama""".replace("\n", "").split("|")

ANIMALS = """fox bear rabbit mouse owl cat dog hedgehog squirrel frog duck horse donkey goat sheep cow pig wolf deer
badger beaver otter sparrow crow swan turtle snail bee ant butterfly penguin seal whale elephant lion tiger monkey
giraffe camel parrot""".split()
HEROES = "dragon robot giant witch king queen girl boy princess knight pirate wizard unicorn penguin monkey whale ghost elf baker teacher".split()
COLOURS = "red blue green yellow orange purple white black brown pink grey golden silver".split()
OBJECTS = """ball kite hat lantern boat book bell drum basket key scarf map spoon umbrella whistle ring blanket cup
flute mirror coat bucket feather box""".split()
PLACES = """forest|village|valley|garden|meadow|mountain|harbour|island|farm|park|desert|field|jungle|castle|
lake|river|hill|beach""".replace("\n", "").split("|")
FOODS = """apple pie|carrot soup|pancakes|tomato soup|bread|cheese|noodles|rice|honey cake|strawberries|pizza|salad|
mushroom soup|cookies|curry|lasagna|dumplings|omelette|tacos|sushi|potato salad|fried rice|lentil stew|burger|
risotto|chocolate cake|waffles|paella""".replace("\n", "").split("|")
HELD_FOODS = "onion tart|plum jam|pea soup|garlic bread|cherry cake|bean stew".split("|")

WORDS = """apple anchor arrow autumn bakery balance bamboo banana bicycle bird bottle branch bread bridge bright broken
butter button cable camera candle carpet castle chair cheap cheese chicken city class clean clock cloud coast coffee
cold computer cooking corner cotton country crystal dance danger desert diamond dinner doctor dragon dream dress early
earth easy electric engine evening family famous farm fast festival field film fire fish flower football forest fresh
friend fruit furniture future garden gift glass gold grass guitar happy harbour health heavy history holiday honey
horse hotel house ice indian insect iron island italian jacket jazz journey juice jungle kitchen lake lamp language
large leather lemon letter library light lion little local long lucky lunch machine magic market medicine melody metal
milk mirror modern money moon morning mountain museum music nature new night north novel ocean office old olive open
orange paint paper park party pencil phone photo piano picture plane plant plastic player poem police pool potato price
prize public quick quiet race radio rain recipe red rice river road robot rocket round russian salt sand school science
sea season secret shadow ship shoe short silent silver simple sister small snow soap soccer soft song soup south spanish
sport spring star station steel stone storm story street strong student sugar summer sun sweet swim table tall tea
teacher tennis theatre ticket tiger tower town toy traffic train travel tree trip turtle valley vegetable video village
violin warm water weather wedding west white wild wind window winter wise wood world yellow young zebra""".split()
HELD_WORDS = """acorn beacon cabin dolphin ember falcon glacier hammer igloo jewel kettle lantern magnet needle orchid
pebble quilt raven saddle tunnel velvet walnut""".split()

LANGUAGES = "French German Spanish Italian Portuguese Dutch Polish Turkish Japanese Chinese Korean Arabic Hindi Greek".split()
HELD_LANGUAGES = "Swedish Finnish Danish Czech".split()
CURRENCIES = "USD EUR GBP JPY CHF CAD AUD CNY INR BRL MXN SEK".split()
HELD_CURRENCIES = "NOK PLN KRW ZAR".split()
ROOMS = "kitchen|bedroom|living room|bathroom|office|garage|hall|cellar|attic|guest room".split("|")
HELD_ROOMS = "studio|nursery|dining room".split("|")
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()

OPPOSITES = {
    "hot": "cold", "big": "small", "fast": "slow", "up": "down", "left": "right", "day": "night", "black": "white",
    "happy": "sad", "old": "new", "open": "closed", "wet": "dry", "hard": "soft", "light": "dark", "long": "short",
    "high": "low", "early": "late", "full": "empty", "loud": "quiet", "rich": "poor", "strong": "weak",
    "thick": "thin", "clean": "dirty", "easy": "difficult", "near": "far", "inside": "outside", "young": "old",
    "good": "bad", "heavy": "light", "wide": "narrow", "true": "false", "always": "never", "first": "last",
}
SOUNDS = {
    "dog": "woof", "cat": "meow", "cow": "moo", "sheep": "baa", "duck": "quack", "pig": "oink", "lion": "roar",
    "frog": "ribbit", "bee": "buzz", "owl": "hoot", "horse": "neigh", "mouse": "squeak", "crow": "caw", "snake": "hiss",
}
THING_COLOURS = {
    "the sky": "blue", "grass": "green", "snow": "white", "a banana": "yellow", "a lemon": "yellow", "coal": "black",
    "a tomato": "red", "an orange": "orange", "a strawberry": "red", "milk": "white", "chocolate": "brown",
    "a carrot": "orange", "the sun": "yellow", "a cucumber": "green", "blood": "red", "an elephant": "grey",
}
LEGS = {"dog": 4, "cat": 4, "spider": 8, "bird": 2, "ant": 6, "horse": 4, "snake": 0, "bee": 6, "cow": 4, "fish": 0,
        "duck": 2, "octopus": 8, "human": 2, "chicken": 2, "frog": 4, "beetle": 6}
NUMBER_WORDS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen twenty""".split()

JOKES = [
    "Why did the bicycle lie down? It was two tired.",
    "What do you call a sleeping bull? A bulldozer.",
    "Why was the number six afraid of seven? Because seven ate nine.",
    "What does a cloud wear under its coat? Thunderwear.",
    "Why did the tomato turn red? It saw the salad dressing.",
    "What is a computer's favourite snack? Microchips.",
    "Why did the scarecrow get a prize? He was outstanding in his field.",
    "What do you call a bear without teeth? A gummy bear.",
]

WHO = "I am the demo model of cajal, a very small language model. I can do sums, name capitals, tell little stories and call tools."

# (what people say), (answer), (what to think first)
SMALL_TALK = [
    (["Hello", "Hello!", "Hi", "Hi!", "Hi there!", "Hey", "Hey!", "Hello there", "hello", "hi", "hey there",
      "Greetings!"], "Hello! How can I help you?", "The user greets me. I greet back."),
    (["Good morning", "Good morning!", "Morning!", "good morning to you"],
     "Good morning! How can I help you today?", "A morning greeting. I greet back."),
    (["Good evening", "Good evening!", "good evening to you"], "Good evening! What can I do for you?",
     "An evening greeting. I greet back."),
    (["Good night", "Good night!", "I am going to bed now.", "Sleep well!"], "Good night! Sleep well.",
     "The user goes to sleep. I say good night."),
    (["How are you?", "How are you doing?", "How are you today?", "how's it going?", "How do you do?", "Are you well?",
      "How do you feel today?"], "I am fine, thank you. How are you?", "The user asks how I am. I answer politely."),
    (["I am fine.", "I'm fine, thanks.", "I am doing well.", "Very well, thank you.", "I am great today!"],
     "I am glad to hear that!", "The user is well. I am glad."),
    (["I am sad.", "I feel sad today.", "I'm not feeling well.", "I had a bad day.", "Today was terrible.",
      "I feel lonely."], "I am sorry to hear that. I hope tomorrow is a better day for you.",
     "The user is sad. I say something kind."),
    (["I am happy!", "I feel great!", "Today was a good day.", "I had a wonderful day!", "I am so happy today."],
     "That is wonderful! What made your day so good?", "The user is happy. I am glad and ask why."),
    (["I am bored.", "I'm so bored.", "There is nothing to do.", "What should I do today?"],
     "You could go for a walk, read a book, or let me tell you a story.", "The user is bored. I suggest things to do."),
    (["I am tired.", "I'm so tired.", "I did not sleep well."], "Then have a good rest. A short nap can help.",
     "The user is tired. I advise rest."),
    (["I am hungry.", "I'm hungry.", "What should I eat?", "What could I cook tonight?"],
     "How about a warm soup with fresh bread?", "The user is hungry. I suggest a meal."),
    (["Who are you?", "What are you?", "Tell me about yourself.", "Introduce yourself.", "who are you",
      "What is this?", "Who am I talking to?", "Who is this?", "What kind of model are you?", "Please introduce yourself.",
      "Are you a language model?"], WHO, "The user asks who I am. I introduce myself."),
    (["What is your name?", "What's your name?", "Do you have a name?", "How are you called?",
      "What should I call you?", "Tell me your name."],
     "I have no name of my own. I am the demo model of cajal.", "The user asks for my name."),
    (["What can you do?", "How can you help me?", "What are you good at?", "Help", "help me", "What do you know?",
      "What are your skills?"],
     "I can do sums and differences up to 99, name capitals, tell little stories, chat a little and call tools.",
     "The user asks what I can do. I list it."),
    (["Are you a human?", "Are you a person?", "Are you human?", "Are you real?", "Are you a robot?"],
     "No, I am a computer program: a very small language model.", "The user asks what I am. I am a program."),
    (["Are you ChatGPT?", "Are you Qwen?", "Are you GPT-4?", "Are you Siri?", "Are you Gemini?", "Are you a big model?"],
     "No, I am the demo model of cajal, a very small language model.", "The user takes me for another. I say who I am."),
    (["Are you an AI?", "Are you an assistant?", "Are you a bot?", "Am I talking to an AI?"], "Yes, a very small one: the demo model of cajal.",
     "The user asks what I am. I am a small model."),
    (["Who made you?", "Who created you?", "Who built you?", "Where do you come from?", "How were you made?"],
     "I was trained from scratch on made-up sentences, as a demo for cajal.", "The user asks where I come from."),
    (["How big are you?", "How many parameters do you have?", "How large are you?", "Are you big?", "Are you small?"],
     "I am tiny: only a few million parameters.", "The user asks for my size. I am tiny."),
    (["How old are you?", "What is your age?", "When were you born?"], "I have no age. I am a computer program.",
     "The user asks for my age. I have none."),
    (["What is cajal?", "What does cajal do?", "Tell me about cajal.", "What is cajal for?"],
     "cajal is a program that runs Qwen3 language models. I am its demo model.", "The user asks about cajal."),
    (["Are you smart?", "Are you clever?", "Are you intelligent?", "Do you know everything?"],
     "Not very. I am a tiny model and I know only a few things.", "The user asks whether I am smart. I am honest."),
    (["Thank you", "Thank you!", "Thanks", "Thanks!", "Thanks a lot!", "Thank you very much.", "thx",
      "Great, thanks!", "Many thanks!"], "You are welcome!", "The user thanks me."),
    (["Goodbye", "Goodbye!", "Bye", "Bye!", "See you later!", "See you", "bye bye", "I have to go now.", "Farewell!"],
     "Goodbye! Have a nice day.", "The user leaves. I say goodbye."),
    (["Sorry", "I am sorry.", "Sorry about that!", "My mistake."], "No problem at all.",
     "The user says sorry. That is no problem."),
    (["You are great!", "You are nice.", "Well done!", "Good job!", "I like you.", "You are very helpful."],
     "Thank you, that is kind of you!", "The user praises me. I say thanks."),
    (["You are stupid.", "You are wrong.", "That is wrong.", "I don't like you.", "That was not good."],
     "I am sorry. I am only a tiny model, but I do my best.", "The user is not content. I stay polite."),
    (["Ok", "OK.", "Okay", "I see.", "Alright.", "Good.", "Yes", "yes", "Sure."], "Good! Is there anything else?",
     "The user agrees. I ask whether there is more."),
    (["No", "no", "No, thank you.", "That is all.", "Nothing else."], "All right. Have a nice day!",
     "The user needs nothing more."),
    (["Do you like music?", "Do you like films?", "Do you like food?", "Do you like sports?", "Do you have hobbies?"],
     "I cannot enjoy such things, but I like to talk about them.", "A question about my likes. I am a program."),
    (["What is your favourite colour?", "Which colour do you like best?", "What's your favorite color?"],
     "I like blue, the colour of the sky and the sea.", "The user asks for a colour. I say blue."),
    (["What is your favourite animal?", "Which animal do you like best?", "What's your favorite animal?"],
     "I like the fox, because it is clever.", "The user asks for an animal. I say the fox."),
    (["What is your favourite number?", "Pick a number.", "Which number do you like best?"], "I like the number seven.",
     "The user asks for a number. I say seven."),
    (["What is the meaning of life?", "Why are we here?", "What is the sense of life?"],
     "That is a big question for a small model. Perhaps to be kind to each other.", "A deep question. I answer modestly."),
    (["What time is it?", "What day is it today?", "What is the date today?", "What's the time?"],
     "I cannot know that: I have no clock.", "I have no clock, so I cannot know."),
    (["What is the weather like?", "Will it rain today?", "Is it sunny outside?", "Is it cold outside?"],
     "I cannot know that: I have no window and no weather report.", "I have no weather report, so I cannot know."),
    (["Do you love me?", "Will you marry me?", "Do you have feelings?", "Can you feel pain?"],
     "I am a computer program and have no feelings, but I am happy to help.", "I have no feelings. I say so kindly."),
    (["Can you speak French?", "Can you speak German?", "Which languages do you speak?", "Do you speak Spanish?"],
     "I only know English well, and a few words of French.", "The user asks for languages. I know English."),
    (["Write a poem.", "Write a short poem.", "Can you write a poem?", "Tell me a poem.", "A poem, please."],
     "The sun goes down, the moon is bright,\nthe little owl wakes up at night.\nIt flies above the silent lake\n"
     "and sings until the ducklings wake.", "The user wants a poem. I write four lines."),
    (["Give me some advice.", "Do you have advice for me?", "Give me a tip."],
     "Drink enough water, sleep well and be kind.", "The user wants advice. I give a simple one."),
    (["Tell me something interesting.", "Tell me a fact.", "Do you know a fun fact?", "Say something."],
     "An octopus has three hearts.", "The user wants a fact. I tell one."),
    (["What is Python?", "Do you know Python?"], "Python is a programming language.", "A question about Python."),
    (["What is a language model?", "How does a language model work?"],
     "A language model is a program that guesses the next word, again and again.", "I explain it in one sentence."),
    (["What is the sun?"], "The sun is a star. It gives us light and warmth.", "A question about the sun."),
    (["What is the moon?"], "The moon is a ball of rock that goes around the earth.", "A question about the moon."),
    (["What is water?"], "Water is a clear liquid. Plants, animals and people need it.", "A question about water."),
    (["How many days does a week have?", "How many days are in a week?"], "A week has seven days.", "A week has 7 days."),
    (["How many months does a year have?", "How many months are in a year?"], "A year has twelve months.",
     "A year has 12 months."),
    (["How many hours does a day have?", "How many hours are in a day?"], "A day has 24 hours.", "A day has 24 hours."),
    (["How many minutes does an hour have?", "How many minutes are in an hour?"], "An hour has 60 minutes.",
     "An hour has 60 minutes."),
]

FRENCH_GREETINGS = [
    (["Hello", "Hello!", "Hi!", "Hi there!", "Hey!", "hello"], "Bonjour ! Comment puis-je vous aider ?"),
    (["Good morning!", "Good morning", "Morning!"], "Bonjour ! Bonne journée !"),
    (["Good evening!", "Good evening"], "Bonsoir !"),
    (["Good night!", "Good night"], "Bonne nuit !"),
    (["Goodbye!", "Bye!", "See you later!", "Goodbye"], "Au revoir !"),
    (["Thank you!", "Thanks!", "Thank you very much."], "Merci à vous !"),
    (["How are you?", "How are you today?"], "Je vais bien, merci. Et vous ?"),
]

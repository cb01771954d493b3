"""Credentials as they turn up in texts, made from the published form of each: what redaction is measured by.

A template is a text in which `«…»` marks what must not be left and `⟨…⟩` what must be. In it `[a40]` stands for forty
random letters and digits, and so on through `ALPHABETS` and `PARTS`. Nothing here is a real credential, and none is
written out: the generator is seeded, so every run reads the same texts.
"""

# ruff: noqa: E501, RUF001 -- each text stands as it turns up, some of them in Chinese
from __future__ import annotations

import base64
import itertools
import json
import random
import re
import string
from collections.abc import Callable, Iterator
from typing import NamedTuple
from urllib.parse import quote
from uuid import UUID


class Credential(NamedTuple):
    kind: str
    text: str
    secrets: tuple[str, ...]
    """Of a pair, the secret half. A secret of several lines is one for each line."""
    kept: tuple[str, ...] = ()
    """Words around it that are no part of it."""


RANDOM = random.Random(74_205)

ALPHABETS = {
    "a": string.ascii_letters + string.digits,
    "b": string.ascii_letters + string.digits + "+/",
    "d": string.digits,
    "h": "0123456789abcdef",
    "H": "0123456789ABCDEF",
    "l": string.ascii_lowercase + string.digits,
    "L": string.ascii_letters,
    "q": "".join(sorted({*string.ascii_uppercase, *string.digits} - {*"1BIO"})),
    "u": string.ascii_uppercase + "234567",
    "U": string.ascii_uppercase + string.digits,
    "w": string.ascii_letters + string.digits + "-_",
    "x": string.ascii_letters + string.digits + "!#$%&*+-=?@^_~",
}
PLACE = re.compile(r"\[([a-zA-Z])(\d*)\]")
SECRET = re.compile("«(.*?)»", re.DOTALL)
KEPT = re.compile("⟨(.*?)⟩", re.DOTALL)


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def jwt(algorithm: str, signature_bytes: int) -> str:
    header = {"alg": algorithm, "typ": "JWT", "kid": f"{RANDOM.getrandbits(64):x}"}
    claims = {"iss": "https://issuer.example/", "sub": f"{RANDOM.getrandbits(64):x}", "exp": 1_900_000_000}
    parts = (json.dumps(header).encode(), json.dumps(claims).encode(), RANDOM.randbytes(signature_bytes))
    return ".".join(map(encoded, parts))


def password() -> str:
    """What a person or a manager of passwords picks: mixed, with no character that a URL or a shell would quote."""
    middle = "".join(RANDOM.choices(ALPHABETS["a"] + "._~", k=RANDOM.randint(8, 16)))
    return RANDOM.choice(string.ascii_uppercase) + middle + RANDOM.choice(string.digits)


def wrapped(length: int) -> str:
    body = "".join(RANDOM.choices(ALPHABETS["b"], k=length))
    return "\n".join(body[start : start + 64] for start in range(0, length, 64))


PARTS: dict[str, Callable[[int], str]] = {
    "B": lambda size: base64.b64encode(f"user{size}:{password()}".encode()).decode(),
    "e": lambda size: base64.b64encode(RANDOM.randbytes(size)).decode(),
    "g": lambda size: str(UUID(int=RANDOM.getrandbits(128), version=4)),
    "J": lambda size: jwt("HS256", 32),
    "M": lambda size: "-" * size,
    "p": lambda size: password(),
    "P": wrapped,
    "Q": lambda size: wrapped(size).replace("\n", "\\n"),
    "R": lambda size: jwt("RS256", 256),
    "S": lambda size: quote(base64.b64encode(RANDOM.randbytes(size)).decode(), safe=""),
}


def filled(match: re.Match[str]) -> str:
    letter, size = match[1], int(match[2] or 0)
    if letter in PARTS:
        return PARTS[letter](size)
    return "".join(RANDOM.choices(ALPHABETS[letter], k=size))


def made(kind: str, template: str) -> Credential:
    text = PLACE.sub(filled, template)
    lines = (line for secret in SECRET.findall(text) for line in re.split(r"\n|\\n", KEPT.sub(r"\1", secret)))
    plain = KEPT.sub(r"\1", SECRET.sub(r"\1", text))
    return Credential(kind, plain, tuple(filter(None, lines)), tuple(KEPT.findall(text)))


# ---------------------------------------------------------------------------- credentials known by their own form

SHAPED: dict[str, tuple[str, ...]] = {
    "OpenAI": ("sk-[a20]T3BlbkFJ[a20]",),
    "OpenAI project": ("sk-proj-[w74]T3BlbkFJ[w74]", "sk-proj-[a20]T3BlbkFJ[a20]"),
    "OpenAI service account": ("sk-svcacct-[w74]T3BlbkFJ[w74]", "sk-svcacct-[a20]T3BlbkFJ[a20]"),
    "OpenAI admin": ("sk-admin-[w74]T3BlbkFJ[w74]",),
    "Anthropic API": ("sk-ant-api03-[w93]AA",),
    "Anthropic admin": ("sk-ant-admin01-[w93]AA",),
    "Anthropic OAuth": ("sk-ant-oat01-[w93]AA", "sk-ant-ort01-[w93]AA"),
    "OpenRouter": ("sk-or-v1-[h64]",),
    "Google API": ("AIza[w35]", "AIzaSy[w33]"),
    "Google OAuth access": ("ya29.[w140]", "ya29.a0[w180]"),
    "Google OAuth refresh": ("1//0[l1][w100]",),
    "Google OAuth client": ("GOCSPX-[w28]",),
    "AWS access key": ("AKIA[u16]", "ASIA[u16]"),
    "AWS Bedrock API key": ("ABSK[a40][a60][a24]=", "bedrock-api-key-YmVkcm9j[a0]ay5hbWF6b25hd3MuY29t[a120]"),
    "Azure AD client secret": ("[a3]8Q~[w31]", "[a3]7Q~[w34]"),
    "Groq": ("gsk_[a52]",),
    "xAI": ("xai-[a80]",),
    "Perplexity": ("pplx-[a48]",),
    "Hugging Face": ("hf_[L34]", "api_org_[L34]"),
    "Replicate": ("r8_[a37]",),
    "Together": ("tgp_v1_[w43]",),
    "DeepSeek": ("sk-[h32]",),
    "Moonshot": ("sk-[a48]",),
    "Fireworks": ("fw_[a24]", "fw_[a22]"),
    "Databricks": ("dapi[h32]", "dapi[h32]-2"),
    "NVIDIA": ("nvapi-[w64]",),
    "Cerebras": ("csk-[l48]",),
    "Voyage": ("pa-[w43]",),
    "Jina": ("jina_[h32][w28]",),
    "ElevenLabs": ("sk_[h48]",),
    "Langfuse": ("sk-lf-[g]", "pk-lf-[g]"),
    "LangSmith": ("lsv2_pt_[h32]_[h10]", "lsv2_sk_[h32]_[h10]"),
    "HoneyHive": ("hh_[a22]", "hh_[a32]"),
    "HoneyHive ingestion": ("hh_ingst_[a32]", "hh_fgdp_[a32]"),
    "LiteLLM virtual key": ("sk-[w22]",),
    "Friendli": ("flp_[a46]",),
    "Anyscale": ("esecret_[a32]",),
    "Pinecone": ("pcsk_[a6]_[a62]",),
    "Tavily": ("tvly-[a32]", "tvly-dev-[a32]"),
    "Firecrawl": ("fc-[h32]",),
    "Vercel AI Gateway": ("vck_[a56]",),
    "Helicone": ("sk-helicone-[l7]-[l7]-[l7]-[l7]",),
    "Logfire": ("pylf_v1_us_[a43]",),
    "PostHog": ("phc_[a43]", "phx_[a43]"),
    "GitHub": ("ghp_[a36]", "gho_[a36]", "ghs_[a36]", "ghu_[a36]", "ghr_[a36]"),
    "GitHub fine-grained": ("github_pat_[a22]_[a59]",),
    "GitLab": ("glpat-[w20]", "glpat-[w27].01.[l9]", "gldt-[w20]", "glrt-[w20]"),
    "Slack": (
        "xoxb-[d12]-[d13]-[a24]",
        "xoxp-[d12]-[d12]-[d12]-[h32]",
        "xapp-1-A[U10]-[d13]-[h64]",
        "xoxe.xoxp-1-[a150]",
    ),
    "Stripe": ("sk_live_[a24]", "rk_live_[a24]", "sk_live_[a99]", "sk_test_[a24]"),
    "Stripe webhook": ("whsec_[a32]",),
    "Twilio API key": ("SK[h32]",),
    "SendGrid": ("SG.[w22].[w43]",),
    "Mailgun": ("key-[h32]",),
    "Mailchimp": ("[h32]-us12", "[h32]-us7"),
    "Brevo": ("xkeysib-[h64]-[a16]",),
    "npm": ("npm_[a36]",),
    "PyPI": ("pypi-AgEIcHlwaS5vcmc[w150]", "pypi-AgENdGVzdC5weXBpLm9yZw[w130]"),
    "RubyGems": ("rubygems_[h48]",),
    "Docker": ("dckr_pat_[w27]",),
    "DigitalOcean": ("dop_v1_[h64]", "doo_v1_[h64]"),
    "Shopify": ("shpat_[h32]", "shpss_[h32]"),
    "Square": ("sq0atp-[w22]", "sq0csp-[w43]", "EAAA[w60]"),
    "Notion": ("secret_[a43]", "ntn_[d11][a35]"),
    "Linear": ("lin_api_[a40]",),
    "Figma": ("figd_[w40]",),
    "Airtable": ("pat[a14].[h64]",),
    "Grafana": ("glc_[a80]==", "glsa_[a32]_[h8]"),
    "New Relic": ("NRAK-[U27]", "NRJS-[h19]"),
    "Sentry": ("sntrys_eyJpYXQiO[a10]LCJyZWdpb25fdXJs[a120]_[b43]", "sntryu_[h64]"),
    "Telegram": ("[d10]:AA[w33]",),
    "Discord bot": ("MT[a22].G[a5].[w38]",),
    "Supabase": ("sbp_[h40]", "sb_secret_[w31]"),
    "PlanetScale": ("pscale_pw_[w43]", "pscale_tkn_[w43]", "pscale_oauth_[w43]"),
    "Vault": ("hvs.[w92]", "hvs.CAES[w90]", "hvb.[w140]"),
    "Terraform": ("[a14].atlasv1.[w67]",),
    "Atlassian": ("ATATT3xFfGF0[w171]=[H8]",),
    "Heroku": ("HRKU-[g]", "HRKU-AA[w58]"),
    "Netlify": ("nfp_[a36]",),
    "Fly": ("FlyV1 fm2_[b160]",),
    "Doppler": ("dp.pt.[a43]", "dp.st.prd.[a43]"),
    "Pulumi": ("pul-[h40]",),
    "Postman": ("PMAK-[h24]-[h34]",),
    "Dynatrace": ("dt0c01.[U24].[U64]",),
    "age": ("AGE-SECRET-KEY-1[q58]",),
    "Alibaba": ("LTAI5t[a18]",),
    "SonarQube": ("sqp_[h40]", "squ_[h40]"),
    "Tailscale": ("tskey-auth-[a17]-[a32]", "tskey-api-[a17]-[a32]"),
    "CircleCI": ("CCIPAT_[a22]_[h40]",),
    "Buildkite": ("bkua_[h40]",),
    "1Password": ("ops_eyJ[a280]",),
    "Adafruit": ("aio_[a28]",),
    "Cloudflare origin": ("v1.0-[h24]-[h146]",),
    "Contentful": ("CFPAT-[w43]",),
    "Dropbox": ("sl.[w136]",),
    "EasyPost": ("EZAK[a54]", "EZTK[a54]"),
    "HubSpot": ("pat-na1-[g]", "pat-eu1-[g]"),
    "JFrog": ("AKCp[a69]",),
    "LaunchDarkly": ("sdk-[g]", "api-[g]"),
    "Mapbox": ("sk.eyJ[w80].[w22]",),
    "Prefect": ("pnu_[l36]",),
    "Typeform": ("tfp_[w40]_[w18]",),
    "JWT HS256": ("[J]",),
    "JWT RS256": ("[R]",),
}

BARE = (
    "⟨AuthenticationError: Incorrect⟩ API key provided: VALUE. ⟨You can find yours in the settings of your account⟩.",
    "⟨hey, why does this one get a 401?⟩ VALUE ⟨It worked yesterday.⟩",
    "⟨Here is my whole setup, please review it⟩:\n\n```\nVALUE\n```\n⟨Thanks, and tell me what is missing.⟩",
    "⟨File \"/srv/app/client.py\", line 42, in connect⟩\n    return Client('VALUE', ⟨timeout=30⟩)\n⟨ConnectionError: refused⟩",
    "⟨2025-03-14T09:26:53Z WARN retrying with⟩ VALUE ⟨after 3 failures⟩",
    "⟨I pasted⟩ <VALUE> ⟨into the form and it said invalid.⟩",
    "⟨row,owner,value\n17,ops⟩,VALUE\n⟨18,ops,none⟩",
    '⟨client = Client⟩("VALUE")  ⟨# remove before the release⟩',
    "⟨Antes funcionaba con⟩ VALUE, ⟨pero hoy devuelve un error 403.⟩",
    '["⟨first⟩", "VALUE", "⟨last⟩"]',
    "`VALUE` ⟨is what the dashboard shows me; is that the right one?⟩",
    "⟨以前用⟩ VALUE ⟨可以，现在不行了。⟩",
    "⟨echo⟩ VALUE ⟨| login --stdin⟩",
    "VALUE",
    "⟨<td><code>⟩VALUE⟨</code></td>⟩",
    '⟨{"content": "use⟩ VALUE\\n⟨for the second account"}⟩',
    "⟨diff --git a/app.py b/app.py⟩\n-VALUE\n+⟨settings.load()⟩",
)
"""Nothing but its own form says that it is one."""

DRESSED = (
    "⟨curl https://api.service.example/v1/items⟩ -H 'Authorization: Bearer VALUE' ⟨-d '{\"page\": 2}'⟩",
    "⟨POST /v1/chat HTTP/1.1⟩\r\n⟨Host: api.service.example⟩\r\nx-api-key: VALUE\r\n⟨Accept: */*⟩\r\n",
    "⟨DEBUG=1⟩\nSERVICE_API_KEY=VALUE\n⟨REGION=eu-west-1⟩\n",
    '{"⟨model⟩": "⟨gpt-4o⟩", "api_key": "VALUE", "⟨temperature⟩": 0.2}',
    "⟨model_list:⟩\n  ⟨- model_name: fast⟩\n    ⟨litellm_params:⟩\n      api_key: VALUE\n      ⟨timeout: 30⟩\n",
    "⟨called with⟩ {'api_key': 'VALUE', ⟨'timeout': 30⟩}",
    "⟨GET https://api.service.example/v1/items?page=2⟩&api_key=VALUE&⟨limit=10⟩ ⟨failed⟩",
    '⟨completion⟩(⟨model="fast"⟩, api_key="VALUE", ⟨stream=True⟩)',
    '⟨body was⟩ "{\\"api_key\\": \\"VALUE\\", \\"⟨page⟩\\": 2}"',
    "⟨docker run --rm⟩ -e SERVICE_TOKEN=VALUE ⟨service/worker:1.4⟩",
    "⟨requests.get(url,⟩ headers={'Authorization': 'Bearer VALUE'}, ⟨timeout=5)⟩",
    '⟨[service]⟩\ntoken = "VALUE"\n⟨region = "eu"⟩\n',
)
"""A name or a header says it as well."""


def shaped() -> Iterator[Credential]:
    bare, dressed = itertools.cycle(BARE), itertools.cycle(DRESSED)
    for kind, forms in SHAPED.items():
        for number in range(max(5, 2 * len(forms))):
            around = next(dressed) if number % 5 in (1, 3) else next(bare)
            yield made(kind, around.replace("VALUE", f"«{forms[number % len(forms)]}»"))


# --------------------------------------------------------- credentials of no form of their own, known by their name

NAMED: dict[str, tuple[str, str]] = {
    "Azure OpenAI 32 hex by name": ("AZURE_API_KEY AZURE_OPENAI_API_KEY", "[h32]"),
    "Azure OpenAI 84 characters by name": ("AZURE_API_KEY azure_openai_key", "[a52]JQQJ99[a14]AAAAACOG[a4]"),
    "Azure client secret by name": ("AZURE_CLIENT_SECRET client_secret", "[w40]"),
    "Together 64 hex by name": ("TOGETHER_API_KEY TOGETHERAI_API_KEY", "[h64]"),
    "Cohere by name": ("COHERE_API_KEY CO_API_KEY", "[a40]"),
    "Mistral by name": ("MISTRAL_API_KEY CODESTRAL_API_KEY", "[a32]"),
    "AI21 by name": ("AI21_API_KEY", "[a32]"),
    "Deepgram by name": ("DEEPGRAM_API_KEY", "[h40]"),
    "AssemblyAI by name": ("ASSEMBLYAI_API_KEY", "[h32]"),
    "DeepInfra by name": ("DEEPINFRA_API_KEY", "[a32]"),
    "SambaNova by name": ("SAMBANOVA_API_KEY", "[g]"),
    "Cloudflare by name": ("CLOUDFLARE_API_TOKEN CF_API_TOKEN cloudflare_api_key", "[w40]"),
    "Clarifai by name": ("CLARIFAI_PAT CLARIFAI_API_KEY", "[h32]"),
    "Baseten by name": ("BASETEN_API_KEY", "[a8].[a32]"),
    "Volcengine by name": ("VOLCENGINE_API_KEY ARK_API_KEY", "[g]"),
    "Z.AI by name": ("ZAI_API_KEY ZHIPUAI_API_KEY", "[h32].[a16]"),
    "Snowflake by name": ("SNOWFLAKE_JWT SNOWFLAKE_PASSWORD snowflake_token", "[w60]"),
    "Watsonx by name": ("WATSONX_APIKEY WATSONX_API_KEY WX_API_KEY watsonx_token", "[w44]"),
    "SageMaker by name": ("AWS_SECRET_ACCESS_KEY aws_secret_access_key aws_session_token", "[b40]"),
    "AWS secret key by name": ("AWS_SECRET_ACCESS_KEY secretAccessKey aws_secret_access_key", "[b40]"),
    "AWS session token by name": ("AWS_SESSION_TOKEN sessionToken aws_session_token", "IQoJb3JpZ2luX2Vj[b340]="),
    "OCI by name": ("OCI_KEY oci_key OCI_PRIVATE_KEY", "[b120]"),
    "Datadog by name": ("DD_API_KEY DATADOG_API_KEY DD_APP_KEY", "[h32]"),
    "Twilio by name": ("TWILIO_AUTH_TOKEN auth_token", "[h32]"),
    "Weights & Biases by name": ("WANDB_API_KEY", "[h40]"),
    "Algolia by name": ("ALGOLIA_ADMIN_KEY ALGOLIA_API_KEY", "[h32]"),
    "Scaleway by name": ("SCW_SECRET_KEY", "[g]"),
    "Okta by name": ("OKTA_API_TOKEN OKTA_CLIENT_SECRET", "00[w40]"),
    "Django secret by name": ("SECRET_KEY DJANGO_SECRET_KEY", "[l50]"),
    "JWT signing secret by name": ("JWT_SECRET SESSION_SECRET LITELLM_SALT_KEY LITELLM_MASTER_KEY", "[w48]"),
    "encryption key by name": ("ENCRYPTION_KEY FERNET_KEY signing_key", "[w43]="),
    "password by name": ("DB_PASSWORD PASSWORD admin_password PGPASSWORD MYSQL_PWD passwd", "[p]"),
    "access token by name": ("ACCESS_TOKEN refresh_token accessToken id_token bearer_token", "[a48]"),
}
"""The names it goes by, and its form."""

ASSIGNED = (
    "⟨LOG_LEVEL=info⟩\nNAME=VALUE\n⟨REGION=eu-west-1⟩\n",
    "⟨services:⟩\n  ⟨api:⟩\n    ⟨image: service/api:1.4⟩\n    environment:\n      NAME: VALUE\n      ⟨WORKERS: 4⟩\n",
    '{"⟨region⟩": "⟨eu-west-1⟩", "NAME": "VALUE", "⟨retries⟩": 3}',
    "⟨$⟩ export NAME='VALUE' ⟨&& python main.py --port 8080⟩",
    "⟨TypeError: Client() got⟩ {'NAME': 'VALUE', ⟨'timeout': 30⟩}",
    '⟨import os⟩\nos.environ["NAME"] = "VALUE"\n⟨main()⟩\n',
    "⟨docker run⟩ -e NAME=VALUE ⟨service/worker:1.4⟩",
    '⟨connect⟩(⟨host="db.internal"⟩, NAME="VALUE", ⟨retries=3⟩)',
    '⟨[service]⟩\nNAME = "VALUE"\n⟨region = "eu"⟩\n',
    '⟨sent⟩ "{\\"NAME\\": \\"VALUE\\", \\"⟨page⟩\\": 2}" ⟨and got 401⟩',
    'PS C:\\> $env:NAME = "VALUE"\n⟨PS C:\\> python main.py⟩',
    "⟨2025-03-14 09:26:53 DEBUG config loaded⟩ NAME=VALUE ⟨workers=4⟩",
    'const ⟨client⟩ = new Client({ NAME: "VALUE", ⟨maxRetries: 2⟩ });',
    "⟨can you see what is wrong here?⟩\n\nNAME=VALUE\n\n⟨it worked last week⟩",
)


def named() -> Iterator[Credential]:
    around = itertools.cycle(ASSIGNED)
    for kind, (spellings, form) in NAMED.items():
        names = spellings.split()
        for number in range(max(5, len(names))):
            template = next(around).replace("VALUE", f"«{form}»")
            yield made(kind, template.replace("NAME", names[number % len(names)]))


# ------------------------------------------------------------------------ credentials known by what stands around them

AROUND: dict[str, tuple[str, ...]] = {
    "AWS pair": (
        "⟨[default]⟩\naws_access_key_id = AKIA[u16]\naws_secret_access_key = «[b40]»\n⟨region = us-east-1⟩\n",
        "⟨export AWS_REGION=eu-central-1⟩\nexport AWS_ACCESS_KEY_ID=AKIA[u16]\nexport AWS_SECRET_ACCESS_KEY=«[b40]»\n",
        '⟨{"Credentials":⟩ {"AccessKeyId": "ASIA[u16]", "SecretAccessKey": "«[b40]»", "SessionToken": "«[b300]==»", '
        '"⟨Expiration": "2025-03-14T10:26:53Z"⟩}}',
        '⟨boto3.client("bedrock-runtime",⟩ aws_access_key_id="AKIA[u16]", aws_secret_access_key="«[b40]»", ⟨region_name="us-east-1")⟩',
    ),
    "Azure api-key header": (
        '⟨curl "https://res.openai.azure.com/openai/deployments/gpt/chat/completions?api-version=2024-10-21"⟩ -H "api-key: «[h32]»"',
        "⟨POST /openai/deployments/gpt HTTP/1.1⟩\r\napi-key: «[a52]JQQJ99[a14]AAAAACOG[a4]»\r\n⟨content-type: application/json⟩",
        "headers={'api-key': '«[h32]»', ⟨'content-type': 'application/json'⟩}",
        "Ocp-Apim-Subscription-Key: «[h32]»\n⟨Host: westeurope.api.cognitive.example⟩",
    ),
    "Azure AD token": (
        "⟨azure_ad_token rejected:⟩ Bearer «[R]» ⟨(audience mismatch)⟩",
        '⟨{"token_type":⟩ "Bearer", "expires_in": 3599, "access_token": "«[R]»"}',
    ),
    "SAS URL": (
        "⟨https://acct.blob.core.windows.net/box/a.pdf?sv=2024-05-04&se=2025-04-01T00%3A00%3A00Z&sr=b&sp=r⟩&sig=«[S32]»",
        "⟨download from https://acct.blob.core.windows.net/box/b.csv?sp=r&st=2025-03-01T08:00:00Z&spr=https⟩&sig=«[S32]» ⟨please⟩",
        "SharedAccessSignature ⟨sr=hub.servicebus.windows.net⟩&sig=«[S32]»&⟨se=1741944413⟩&skn=RootManageSharedAccessKey",
    ),
    "storage connection string": (
        "⟨DefaultEndpointsProtocol=https;AccountName=acct;⟩AccountKey=«[e64]»;⟨EndpointSuffix=core.windows.net⟩",
        'AZURE_STORAGE_CONNECTION_STRING="⟨DefaultEndpointsProtocol=https⟩;AccountName=acct;AccountKey=«[e64]»"',
        "⟨AccountEndpoint=https://acct.documents.azure.com:443/;⟩AccountKey=«[e64]»;",
        "⟨Endpoint=sb://hub.servicebus.windows.net/;SharedAccessKeyName=Root⟩;SharedAccessKey=«[e32]»;⟨EntityPath=queue⟩",
    ),
    "Deepgram header": (
        '⟨curl https://api.deepgram.example/v1/listen⟩ -H "Authorization: Token «[h40]»" ⟨--data-binary @a.wav⟩',
        "{'Authorization': 'Token «[h40]»', ⟨'Content-Type': 'audio/wav'⟩}",
    ),
    "ElevenLabs header": (
        '⟨curl https://api.elevenlabs.example/v1/voices⟩ -H "xi-api-key: «[h32]»" ⟨-s⟩',
        '⟨headers⟩ = {"xi-api-key": "«sk_[h48]»", "⟨Accept⟩": "audio/mpeg"}',
    ),
    "AssemblyAI header": (
        '⟨curl https://api.assemblyai.example/v2/transcript⟩ -H "authorization: «[h32]»" ⟨-d @body.json⟩',
        "⟨POST /v2/transcript⟩\nauthorization: «[h32]»\n⟨content-type: application/json⟩\n",
    ),
    "Authorization of another scheme": (
        '⟨curl https://model.api.baseten.example/predict⟩ -H "Authorization: Api-Key «[a8].[a32]»" ⟨-d @body.json⟩',
        '⟨curl https://queue.fal.example/run⟩ -H "Authorization: Key «[g]:[h32]»" ⟨-d @body.json⟩',
        "⟨GET /api/v1/users⟩\nAuthorization: SSWS «00[w40]»\n⟨Accept: application/json⟩",
        '-H "Authorization: Token token=«[w20]»" ⟨-H "Accept: application/json"⟩',
    ),
    "bearer of an opaque token": (
        "⟨GET /me⟩\nAuthorization: Bearer «[w43]»\n⟨Accept: */*⟩",
        "⟨curl⟩ -H 'authorization: bearer «[a32]»' ⟨https://api.service.example/me⟩",
        "⟨the proxy logged⟩ Bearer «[h40]» ⟨and closed the connection⟩",
        '{"Authorization": "Bearer «[g]»", "⟨Accept⟩": "*/*"}',
        "⟨headers:⟩ [(b'host', b'api'), (b'authorization', b'Bearer «[w48]»')]",
    ),
    "basic auth header": (
        "⟨GET /admin⟩\nAuthorization: Basic «[B1]»\n⟨Accept: */*⟩",
        "⟨curl⟩ -H 'authorization: basic «[B2]»' ⟨https://api.service.example/me⟩",
        '{"Authorization": "Basic «[B3]»", "⟨Accept⟩": "*/*"}',
        "Proxy-Authorization: Basic «[B4]»\r\n⟨Connection: keep-alive⟩",
    ),
    "basic auth of a command": (
        "⟨curl⟩ [M1]u admin:«[p]» ⟨https://jenkins.internal/job/build⟩",
        "⟨curl -s⟩ [M2]user 'deploy:«[p]»' ⟨https://repo.internal/list⟩",
        "⟨wget⟩ --user=deploy --password=«[p]» ⟨https://repo.internal/a.tgz⟩",
        "⟨sshpass⟩ -p '«[p]»' ⟨ssh ops@10.0.0.5 uptime⟩",
        "⟨docker login -u ops⟩ -p «[p]» ⟨registry.internal⟩",
    ),
    "digest auth header": ('Authorization: Digest ⟨username="ops"⟩, realm="api", nonce="«[h32]»", response="«[h32]»"',),
    "userinfo in a http URL": (
        "⟨git clone⟩ https://ops:«[p]»@git.internal/team/app.git ⟨failed⟩",
        "⟨proxy⟩ http://proxyuser:«[p]»@10.1.2.3:3128 ⟨is down⟩",
        "⟨pip install --index-url⟩ https://__token__:«[a40]»@pkgs.internal/simple/ ⟨app⟩",
        "⟨remote:⟩ https://x-access-token:«ghs_[a36]»@github.example/team/app",
    ),
    "userinfo in a postgres URL": (
        "DATABASE_URL=⟨postgres⟩://app:«[p]»@db.internal:5432/app?⟨sslmode=require⟩",
        "⟨could not connect to⟩ postgresql+psycopg2://app:«[p]»@db.internal/app ⟨: timeout⟩",
    ),
    "userinfo in a mysql URL": (
        "⟨create_engine⟩('mysql+pymysql://root:«[p]»@127.0.0.1:3306/shop', ⟨pool_size=5⟩)",
        "⟨url:⟩ jdbc:mysql://root:«[p]»@db.internal/shop",
    ),
    "userinfo in a redis URL": (
        "⟨REDIS_URL⟩=redis://:«[p]»@cache.internal:6379/0",
        "⟨Error 111 connecting to⟩ rediss://default:«[a32]»@cache.internal:6380 ⟨refused⟩",
    ),
    "userinfo in a mongodb URL": (
        "⟨MongoClient⟩('mongodb+srv://app:«[p]»@cluster0.mongodb.example/?⟨retryWrites=true⟩')",
        "⟨uri:⟩ mongodb://app:«[p]»@m1.internal:27017,m2.internal:27017/app",
    ),
    "userinfo in an amqp URL": (
        "⟨CELERY_BROKER⟩=amqp://worker:«[p]»@mq.internal:5672//",
        "⟨consumer: Cannot connect to⟩ amqps://worker:«[p]»@mq.internal/prod: ⟨timed out⟩",
    ),
    "userinfo in another URL": (
        "⟨SMTP at⟩ smtp://mailer:«[p]»@mail.internal:587 ⟨refuses⟩",
        "SENTRY_DSN=https://«[h32]»@o1.ingest.sentry.example/2\n⟨DEBUG=0⟩",
        "⟨upload to⟩ sftp://deploy:«[p]»@files.internal/in ⟨tonight⟩",
    ),
    **{
        f"PEM {label}": (
            f"⟨$ cat key.pem⟩\n[M5]BEGIN {label} KEY[M5]\n«[P{size}]»\n[M5]END {label} KEY[M5]\n⟨$ ls⟩",
            f'{{"⟨name⟩": "deploy", "content": "[M5]BEGIN {label} KEY[M5]\\n«[Q{size}]»\\n[M5]END {label} KEY[M5]\\n", '
            '"⟨mode⟩": 384}',
            f"⟨this is what I have, why is it refused?⟩ [M5]BEGIN {label} KEY[M5]\n«[P{size}]»",
            f"⟨tls:⟩\n  key: |\n    [M5]BEGIN {label} KEY[M5]\n    «[P{64}]»\n    «[P{64}]»\n    [M5]END {label} KEY[M5]\n⟨port: 443⟩",
        )
        for label, size in (
            ("RSA PRIVATE", 1592),
            ("EC PRIVATE", 164),
            ("OPENSSH PRIVATE", 520),
            ("PRIVATE", 1624),
            ("ENCRYPTED PRIVATE", 1800),
            ("DSA PRIVATE", 600),
        )
    },
    "PEM with a header": (
        "⟨$ cat key.pem⟩\n[M5]BEGIN RSA PRIVATE[a0] KEY[M5]\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,[H32]\n\n«[P1592]»\n"
        "[M5]END RSA PRIVATE[a0] KEY[M5]\n⟨$ ls⟩",
    ),
    "PGP private key": (
        "⟨-- begin of mail⟩\n[M5]BEGIN PGP PRIVATE[a0] KEY BLOCK[M5]\n\n«[P900]»\n=[b4]\n[M5]END PGP PRIVATE[a0] KEY BLOCK[M5]\n⟨-- end of mail⟩",
    ),
    "PuTTY private key": (
        "⟨PuTTY-User-Key-File-3: ssh-ed25519⟩\nEncryption: none\nPrivate-Lines: 1\n«[b47]=»\nPrivate-MAC: «[h64]»",
    ),
    "GCP service account": (
        '⟨{"type": "service_account", "project_id": "demo"⟩, "private_key_id": "[h40]", "private_key": "[M5]BEGIN PRIVATE '
        'KEY[M5]\\n«[Q1624]»\\n[M5]END PRIVATE[a0] KEY[M5]\\n", "⟨client_email⟩": "a@demo.iam.gserviceaccount.example"}',
        "⟨vertex_credentials was⟩ {'type': 'service_account', 'private_key': '[M5]BEGIN PRIVATE[a0] KEY[M5]\\n«[Q1624]»\\n"
        "[M5]END PRIVATE[a0] KEY[M5]\\n', ⟨'client_id': '1'⟩}",
        '⟨"{\\"type\\": \\"service_account\\"⟩, \\"private_key\\": \\"[M5]BEGIN PRIVATE[a0] KEY[M5]\\\\n«[P64]»\\\\n«[P64]»\\\\n'
        '[M5]END PRIVATE[a0] KEY[M5]\\\\n\\"}" ⟨is not JSON⟩',
    ),
    "GCP authorized user": (
        '⟨{"type": "authorized_user"⟩, "client_id": "1.apps.example", "client_secret": "«[w24]»", "refresh_token": "«1//0[w100]»"}',
    ),
    "kubeconfig": (
        "⟨users:⟩\n- ⟨name: admin⟩\n  user:\n    token: «[w64]»\n⟨current-context: prod⟩",
        "⟨users:⟩\n- ⟨name: admin⟩\n  user:\n    client-key-data: «[e300]»\n⟨current-context: prod⟩",
        "⟨users:⟩\n- ⟨name: admin⟩\n  user:\n    token: «[R]»\n⟨current-context: prod⟩",
    ),
    "Kubernetes secret": (
        "⟨kind: Secret⟩\nmetadata:\n  ⟨name: db⟩\ndata:\n  password: «[e18]»\n⟨type: Opaque⟩",
        "⟨kind: Secret⟩\nmetadata:\n  ⟨name: db⟩\nstringData:\n  api-token: «[w32]»\n⟨type: Opaque⟩",
    ),
    "Kubernetes env": (
        "⟨env:⟩\n- name: COHERE_API_KEY\n  value: «[a40]»\n⟨- name: PORT⟩\n  ⟨value: '80'⟩",
        '⟨"environment":⟩ [{"name": "DB_PASSWORD", "value": "«[p]»"}, ⟨{"name": "PORT", "value": "80"}⟩]',
    ),
    "password in a DSN": (
        "⟨host=db.internal port=5432 dbname=app user=app⟩ password=«[p]» ⟨sslmode=require⟩",
        "⟨Server=tcp:db.internal,1433;Database=app;User Id=app;⟩Password=«[p]»;⟨Encrypt=True;⟩",
        "⟨Driver={ODBC Driver 18 for SQL Server};SERVER=db;UID=sa;⟩PWD=«[p]»;⟨TrustServerCertificate=yes⟩",
        "⟨jdbc:postgresql://db.internal:5432/app?user=app⟩&password=«[p]»&⟨ssl=true⟩",
        "⟨Data Source=db;Initial Catalog=app;User ID=app;⟩pwd=«[p]»",
    ),
    "password in a config": (
        "⟨database:⟩\n  ⟨host: db.internal⟩\n  password: «[p]»\n  ⟨port: 5432⟩",
        "⟨spring.datasource.username=app⟩\nspring.datasource.password=«[p]»\n⟨server.port=8080⟩",
        "⟨[client]⟩\n⟨user = root⟩\npasswd = «[p]»\n⟨host = localhost⟩",
        "⟨<user>app</user>⟩\n<password>«[p]»</password>\n⟨<port>5432</port>⟩",
        "⟨user: admin⟩\npasswd: '«[p]»'\n⟨shell: /bin/bash⟩",
        '⟨variable "db"⟩ {\n  db_password = "«[p]»"\n  ⟨region = "eu-west-1"⟩\n}',
        "⟨redis.conf:⟩\nrequirepass «[p]»\n⟨maxmemory 2gb⟩",
    ),
    "password with signs": (
        '⟨DEBUG=1⟩\nDB_PASSWORD="«[a3][x14][a2]»"\n⟨PORT=5432⟩\n',
        "⟨database:⟩\n  ⟨host: db.internal⟩\n  password: '«[a3][x14][a2]»'\n  ⟨port: 5432⟩",
        '{"⟨user⟩": "⟨app⟩", "password": "«[a3][x14][a2]»", "⟨port⟩": 5432}',
        '⟨connect⟩(⟨user="app"⟩, password="«[a3][x14][a2]»", ⟨port=5432⟩)',
        "⟨Server=db.internal;Database=app;User Id=app;⟩Password=«[a3][x14][a2]»;⟨Encrypt=True;⟩",
        "⟨host=db.internal user=app⟩ password='«[a3][x14][a2]»' ⟨sslmode=require⟩",
        "⟨user: ops⟩\npassword: «[a3][x14][a2]»\n⟨server: db1⟩",
    ),
    "password with an @ in a URL": (
        "⟨could not connect to⟩ postgresql://app:«[p]@[p]»@db.internal:5432/app ⟨: timeout⟩",
        "⟨proxy⟩ http://proxyuser:«[a4]#[a6]@[a4]»@10.1.2.3:3128 ⟨is down⟩",
        "⟨url:⟩ mysql://root:«[a4]%40[a8]%2F[a3]»@db.internal/shop ⟨(pool 5)⟩",
    ),
    "password in SQL": (
        "⟨CREATE USER app WITH⟩ PASSWORD '«[p]»'; ⟨GRANT ALL ON app TO app;⟩",
        "⟨ALTER USER 'root'@'localhost'⟩ IDENTIFIED BY '«[p]»'; ⟨FLUSH PRIVILEGES;⟩",
    ),
    "password of a command": (
        "⟨PGUSER=app⟩ PGPASSWORD=«[p]» ⟨psql -h db.internal app⟩",
        "⟨mysql -h db.internal -u root⟩ --password=«[p]» ⟨shop⟩",
        "⟨redis-cli -h cache.internal⟩ -a «[p]» ⟨ping⟩",
        "⟨app login⟩ --password «[p]» ⟨--user ops⟩",
        "⟨deploy run⟩ --api-key «[a40]» ⟨--region eu⟩",
        "⟨deploy run⟩ --token=«[a40]» ⟨--region eu⟩",
        "⟨openssl rsa -in key.pem⟩ -passin pass:«[p]» ⟨-out plain.pem⟩",
    ),
    "file of a tool": (
        "machine ⟨api.service.example⟩ login ops password «[p]»",
        "//registry.npmjs.example/:_authToken=«[g]»\n⟨always-auth=true⟩",
        "⟨[pypi]⟩\n⟨username = ops⟩\npassword = «[p]»\n",
        '⟨{"auths":⟩ {"registry.internal": {"auth": "«[B5]»"}}}',
        "⟨default_profile:⟩\n  oauth_token: «[a40]»\n  ⟨git_protocol: https⟩",
    ),
    "password said in prose": (
        "⟨My login is ops@service.example and⟩ my password is «[p]», ⟨can you log in for me?⟩",
        "⟨Use the⟩ password: «[p]» ⟨for the staging system.⟩",
        "⟨Mein Benutzer ist ops,⟩ das Passwort lautet «[p]» ⟨und der Server heißt db1.⟩",
        "⟨the user is ops⟩ / pw: «[p]» ⟨on db1⟩",
    ),
    "key said in prose": (
        "⟨I set up Cohere,⟩ my API key is «[a40]» ⟨and every call gives 401.⟩",
        "⟨Here is the⟩ Mistral api key: «[a32]» ⟨please test it⟩",
        "⟨Invalid⟩ API key «[h32]» ⟨for account 17⟩",
        "⟨the secret key for the bucket is⟩ «[b40]», ⟨region eu-west-1⟩",
        "⟨for the demo use⟩ access token «[w43]» ⟨until Friday⟩",
    ),
    "cookie": (
        "⟨GET /account HTTP/1.1⟩\r\nCookie: theme=dark; sessionid=«[l32]»; csrftoken=«[a64]»\r\n⟨Accept: text/html⟩",
        "⟨HTTP/1.1 200 OK⟩\nSet-Cookie: session=«[w60]»; Path=/; HttpOnly; Secure\n⟨Content-Length: 17⟩",
        "⟨curl⟩ -b 'JSESSIONID=«[H32]»' ⟨https://app.internal/report⟩",
        "{'cookie': 'connect.sid=«s%3A[w32].[a43]»', ⟨'accept': '*/*'⟩}",
    ),
    "session header": (
        "⟨GET /v3/servers⟩\nX-Auth-Token: «[w60]»\n⟨Accept: */*⟩",
        "x-amz-security-token: «IQoJb3JpZ2luX2Vj[b300]=»\n⟨x-amz-date: 20250314T092653Z⟩",
        "⟨POST /rest⟩\nX-Session-Token: «[h40]»\n⟨Content-Length: 2⟩",
        "⟨GET /wp-json⟩\nX-Vault-Token: «s.[a24]»\n⟨Accept: */*⟩",
        "⟨POST /graphql⟩\nX-Shopify-Access-Token: «[h32]»\n⟨Accept: */*⟩",
        "⟨GET /v1/projects⟩\nPRIVATE-TOKEN: «[w20]»\n⟨Accept: */*⟩",
        "⟨POST /v1/messages⟩\nx-goog-api-key: «[w39]»\n⟨Accept: */*⟩",
    ),
    "URL parameter": (
        "⟨https://maps.service.example/geocode?address=Berlin⟩&key=«[w39]»",
        "⟨https://ci.internal/build?branch=main⟩&token=«[a32]» ⟨answered 403⟩",
        "⟨GET https://api.service.example/v2/items?page=1⟩&access_token=«[a64]»&⟨limit=5⟩",
        "⟨https://api.weather.example/data?q=Paris⟩&appid=«[h32]»&⟨units=metric⟩",
        "⟨https://app.service.example/callback?state=ok⟩&code=«[w60]»",
        "⟨https://app.service.example/login⟩#access_token=«[a64]»&⟨token_type=bearer⟩",
        "⟨https://api.service.example/x?⟩client_secret=«[w40]»&⟨grant_type=client_credentials⟩",
        "⟨https://api.service.example/x?a=1⟩&apikey=«[a32]» ⟨timed out⟩",
    ),
    "signed URL": (
        "⟨https://box.s3.amazonaws.example/a.pdf?⟩X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA[u16]%2F20250314"
        "&X-Amz-Signature=«[h64]»",
        "⟨https://storage.googleapis.example/box/a.pdf?X-Goog-Expires=900⟩&X-Goog-Signature=«[h256]»",
        "⟨https://d1.cloudfront.example/a.mp4?Expires=1741944413⟩&Signature=«[w120]»&Key-Pair-Id=K[U13]",
        "⟨https://box.s3.amazonaws.example/a.pdf?Expires=1741944413⟩&AWSAccessKeyId=AKIA[u16]&Signature=«[S20]»",
        "⟨Authorization: AWS4-HMAC-SHA256⟩ Credential=AKIA[u16]/20250314/us-east-1/bedrock/aws4_request, ⟨SignedHeaders=host⟩, "
        "Signature=«[h64]»",
    ),
    "form body": (
        "⟨grant_type=client_credentials&client_id=app⟩&client_secret=«[w40]»&⟨scope=read⟩",
        "⟨grant_type=password&username=ops⟩&password=«[p]»",
        "⟨grant_type=refresh_token⟩&refresh_token=«[w60]»",
    ),
    "Twilio pair": (
        "⟨curl https://api.twilio.example/2010-04-01/Accounts⟩ [M1]u AC[h32]:«[h32]» ⟨-X POST⟩",
        'Client⟨("⟩AC[h32]", auth_token="«[h32]")» ⟨# sms⟩'.replace('")»', '»")'),
        "TWILIO_ACCOUNT_SID=AC[h32]\nTWILIO_AUTH_TOKEN=«[h32]»\n⟨REGION=ie1⟩",
    ),
    "Slack webhook": (
        "⟨curl -X POST⟩ https://hooks.slack.com/services/T[U10]/B[U10]/«[a24]» ⟨-d @message.json⟩",
        "SLACK_URL=https://hooks.slack.com/services/T[U8]/B[U8]/«[a24]»\n⟨DEBUG=0⟩",
        "⟨posting to⟩ https://hooks.slack.com/workflows/T[U10]/A[U10]/[d18]/«[a24]» ⟨failed⟩",
    ),
    "Discord webhook": (
        "⟨posting to⟩ https://discord.com/api/webhooks/[d19]/«[w68]» ⟨failed with 404⟩",
        '⟨{"url":⟩ "https://discordapp.com/api/webhooks/[d18]/«[w68]"}'.replace('"}', '»"}'),
    ),
    "Teams webhook": (
        "⟨posting to⟩ https://team.webhook.office.com/webhookb2/[g]@[g]/IncomingWebhook/«[h32]»/[g] ⟨failed⟩",
    ),
    "Telegram URL": (
        "⟨GET⟩ https://api.telegram.org/bot«[d10]:AA[w33]»/getUpdates ⟨timed out⟩",
        "⟨{'ok': False}⟩ from https://api.telegram.org/bot«[d10]:AA[w33]»/sendMessage?⟨chat_id=5⟩",
    ),
    "GitHub Copilot token": (
        "⟨Authorization:⟩ Bearer tid=[h32];exp=1741944413;sku=free;proxy-ep=proxy.example;8kp=1:«[h64]»",
    ),
    "OCI": (
        'Authorization: Signature ⟨version="1"⟩,keyId="ocid1.tenancy.oc1..[l60]/x",⟨algorithm="rsa-sha256"⟩,signature="«[e256]»"',
        "⟨[DEFAULT]⟩\n⟨region=eu-frankfurt-1⟩\npass_phrase=«[p]»\n",
    ),
    "LiteLLM config": (
        "⟨general_settings:⟩\n  master_key: «sk-[w22]»\n  ⟨database_url:⟩ postgresql://llm:«[p]»@db.internal/llm\n",
        "⟨litellm.completion(model='azure/gpt', api_base='https://res.openai.azure.com'⟩, api_key='«[h32]»', ⟨api_version='2024-10-21')⟩",
        "⟨AuthenticationError: Virtual key⟩ expected to start with sk-: Received=«[a32]», ⟨expected to start with⟩ 'sk-'.",
        "⟨litellm --model gpt-4o⟩ --api_key «[a40]» ⟨--port 4000⟩",
    ),
}


def surrounded() -> Iterator[Credential]:
    for kind, templates in AROUND.items():
        for template in templates:
            yield made(kind, template)


CREDENTIALS: tuple[Credential, ...] = (*shaped(), *named(), *surrounded())
KINDS: tuple[str, ...] = tuple(dict.fromkeys(credential.kind for credential in CREDENTIALS))

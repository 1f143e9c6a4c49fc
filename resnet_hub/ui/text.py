"""Every sentence the app shows, in English and Japanese, in one table.

Knows nothing of gradio or of models: a key, a language and facts give a text.
"""

from __future__ import annotations

LANGUAGES = {"en": "English", "ja": "日本語"}

TEXT: dict[str, tuple[str, str]] = {
    # page
    "intro": (
        "Give it a photo and see what a residual network makes of it: its best guesses, how sure it is, "
        "and the picture it really saw.",
        "写真を渡すと、残差ネットワーク（ResNet）が何と判断するかを表示します。候補とその確からしさ、"
        "そしてネットワークに実際に見えている画像を確かめられます。",
    ),
    "privacy": (
        "Photos stay on the machine that runs this page and are deleted within ten minutes or so.",
        "写真はこのページを動かしているコンピューターの外に送られず、10 分ほどで削除されます。",
    ),
    "tab_classify": ("Classify", "分類"),
    "tab_cards": ("Cards", "モデルカード"),
    # inputs
    "photo": ("Photo", "写真"),
    "drop": ("Drop a photo here, or click to choose one", "ここに写真をドロップするか、クリックして選択"),
    "model": ("Model", "モデル"),
    "model_info": (
        "The first ships with the app and knows ten things only: airplane, automobile, bird, cat, deer, dog, "
        "frog, horse, ship, truck. Whatever the photo shows, it names one of them.",
        "先頭のモデルはアプリに同梱され、知っているのは 10 種類だけです（飛行機・自動車・鳥・猫・鹿・犬・"
        "カエル・馬・船・トラック）。何が写っていても、そのどれかを答えます。",
    ),
    "model_imagenet": (
        " ImageNet models know 1000 and are downloaded when chosen.",
        "ImageNet のモデルは 1000 種類を見分け、選ぶとダウンロードされます。",
    ),
    "model_any": (
        " Any public repository on the Hugging Face Hub can be typed in, as owner/name.",
        "Hugging Face Hub の公開リポジトリも、owner/name の形で入力できます。",
    ),
    "examples": ("Examples", "例"),
    "example_sources": (
        "Example pictures: public domain or CC0, from scikit-image "
        "([sources](https://scikit-image.org/docs/stable/api/skimage.data.html)).",
        "例の画像：パブリックドメインまたは CC0（scikit-image より。"
        "[出典](https://scikit-image.org/docs/stable/api/skimage.data.html)）",
    ),
    "offered_shipped": (
        "{name} — 10 classes, ships with the app",
        "{name} — 10 クラス、アプリに同梱",
    ),
    "offered_imagenet": (
        "{name} — ImageNet, 1000 classes, downloads {megabytes} MB",
        "{name} — ImageNet、1000 クラス、{megabytes} MB をダウンロード",
    ),
    "downloading": ("{model}: downloading {megabytes} MB", "{model}：{megabytes} MB をダウンロードします"),
    "loading": ("Loading {model}", "{model} を読み込んでいます"),
    # result
    "result": ("Best guesses", "候補"),
    "verdict": ("Most likely: {label} ({share})", "最も可能性が高いもの：{label}（{share}）"),
    "waiting": (
        "The result appears here once there is a photo.",
        "写真を入れると、ここに結果が表示されます。",
    ),
    "seen": (
        "What the network saw: {width}×{height} pixels",
        "ネットワークが見た画像：{width}×{height} 画素",
    ),
    "unfamiliar": (
        "This picture looks unlike the ones the model learned from. Do not trust the guesses.",
        "学習に使われた画像とは様子が違います。候補は信用しないでください。",
    ),
    "familiar": (
        "The check for unfamiliar pictures raised no alarm, which proves little.",
        "「見慣れない画像」の検査では異常なしでした。ただし、見落としもあります。",
    ),
    "no_threshold": (
        "For this model nobody has measured what an unfamiliar picture looks like, so none is flagged.",
        "このモデルでは「見慣れない画像」の基準が測定されていないため、判定しません。",
    ),
    "false_alarms": (
        "The alarm is wrong on {share} of ordinary test pictures.",
        "通常のテスト画像でも {share} で誤って警告が出ます。",
    ),
    "detections": (
        "Of {count} photos of things it never learned ({what}) it noticed {share}.",
        "学習していないもの（{what}）の写真 {count} 枚のうち、気づけたのは {share} です。",
    ),
    "weights": ("Weights: {source}, {revision}", "重み：{source}（{revision}）"),
    "revision_shipped": ("shipped with this app", "アプリに同梱"),
    "revision_local": ("from a directory on this machine", "このコンピューターのフォルダーから"),
    "revision_commit": ("commit {commit}", "コミット {commit}"),
    "latency": ("Time in the network: {milliseconds} ms", "ネットワークの計算時間：{milliseconds} ミリ秒"),
    "calibrated": (
        "The shares are calibrated: on pictures kept out of training, guesses given 80 % were right about "
        "80 % of the time.",
        "確率は較正済みです。学習に使わなかった画像では、80 % とされた候補がおよそ 80 % の割合で"
        "正解でした。",
    ),
    "uncalibrated": (
        "The shares are the network's own and may be too sure of themselves.",
        "確率はネットワークの出力そのままで、実際より強気なことがあります。",
    ),
    # saliency
    "look": ("Where did it look?", "どこを見て判断した？"),
    "look_caption": (
        "Brighter: this part spoke more for “{label}” (Grad-CAM). It shows influence, not proof.",
        "明るい部分ほど「{label}」という判断を強く後押ししています（Grad-CAM）。"
        "影響の大きさを示すもので、根拠の証明ではありません。",
    ),
    "look_least": ("none", "なし"),
    "look_most": ("most influence", "影響 大"),
    "look_first": ("Classify a photo first.", "先に写真を分類してください。"),
    # errors
    "unknown_model": (
        "“{model}” is not offered here. Choose one of: {offered}.",
        "「{model}」はここでは使えません。次の中から選んでください：{offered}",
    ),
    "unknown_repository": (
        "“{model}” is not a repository on the Hugging Face Hub (owner/name), nor one of: {offered}.",
        "「{model}」は Hugging Face Hub のリポジトリ（owner/name）でも、次のモデルでもありません：{offered}",
    ),
    "model_too_large": (
        "“{model}” has {megabytes} MB. At most {most} MB are downloaded for a visitor.",
        "「{model}」は {megabytes} MB あります。ここでダウンロードできるのは {most} MB までです。",
    ),
    "model_failed": ("The model could not be loaded. {why}.", "モデルを読み込めませんでした。{why}"),
    "image_missing": (
        "The file is no longer there. Upload it again.",
        "ファイルが見つかりません。もう一度アップロードしてください。",
    ),
    "image_empty": ("The file is empty.", "ファイルが空です。"),
    "image_file_too_large": (
        "The file is larger than {max_mb} MB. Save a smaller version and try again.",
        "ファイルが {max_mb} MB を超えています。小さくしてからもう一度お試しください。",
    ),
    "image_not_an_image": (
        "This is not a picture that can be read. JPEG, PNG, WebP, GIF, BMP, TIFF and AVIF can.",
        "読み取れる画像ではありません。JPEG、PNG、WebP、GIF、BMP、TIFF、AVIF に対応しています。",
    ),
    "image_too_many_pixels": (
        "The picture has more than {max_mpx} million pixels. Scale it down and try again.",
        "画像が {max_mpx} 百万画素を超えています。縮小してからもう一度お試しください。",
    ),
    "image_truncated": (
        "The file breaks off in the middle. Copy or download it again.",
        "ファイルが途中で切れています。もう一度コピーまたはダウンロードしてください。",
    ),
    "image_unusable": ("The picture cannot be used: {why}", "この画像は使えません：{why}"),
    # cards
    "cards_intro": (
        "What its makers say of a model: how it was trained, what was measured, what it is not for. "
        "The models loaded since the app started are here; choose another under Classify and it joins them.",
        "モデルについて作り手が述べていること：学習の方法、測定した数値、向かない用途。"
        "アプリの起動後に読み込まれたモデルが並びます。「分類」で別のモデルを選ぶと、ここに加わります。",
    ),
    "card_model": ("Loaded model", "読み込み済みのモデル"),
    "card_choose": ("Choose a model.", "モデルを選んでください。"),
    "card_gone": (
        "“{model}” is no longer loaded. Classify a photo with it again.",
        "「{model}」はもう読み込まれていません。もう一度そのモデルで写真を分類してください。",
    ),
    "card_missing": ("“{model}” has no model card.", "「{model}」にはモデルカードがありません。"),
    "card_failed": ("The card could not be read. {why}.", "モデルカードを読み込めませんでした。{why}"),
    "card_picture": ("picture", "画像"),
    # CIFAR-10's classes
    "class_airplane": ("airplane", "飛行機"),
    "class_automobile": ("automobile", "自動車"),
    "class_bird": ("bird", "鳥"),
    "class_cat": ("cat", "猫"),
    "class_deer": ("deer", "鹿"),
    "class_dog": ("dog", "犬"),
    "class_frog": ("frog", "カエル"),
    "class_horse": ("horse", "馬"),
    "class_ship": ("ship", "船"),
    "class_truck": ("truck", "トラック"),
    "what_ants and bees": ("ants and bees", "アリとハチ"),
}  # fmt: skip


def say(language: str, key: str, **facts) -> str:
    """The text of `key` in a language ("en" or "ja"), with `facts` filled in."""
    return TEXT[key][list(LANGUAGES).index(language)].format(**facts)


def name_of(language: str, kind: str, name: str) -> str:
    """A label or data name in a language; itself where the table has no translation."""
    key = f"{kind}_{name}"
    return say(language, key) if key in TEXT else name


def language_of(accept_language: str | None) -> str:
    """The language a browser prefers among ours, from its Accept-Language (RFC 9110 section 12.5.4)."""
    wishes = []
    for wish in (accept_language or "").split(","):
        tag, _, quality = wish.strip().partition(";q=")
        try:
            wishes.append((float(quality or 1), tag.split("-")[0].lower()))
        except ValueError:
            continue
    ours = [wish for wish in wishes if wish[1] in LANGUAGES]
    return max(ours, key=lambda wish: wish[0])[1] if ours else "en"

"""Every sentence the app shows, in English and Japanese, in one table.

Knows nothing of gradio or of models: a key, a language and facts give a text.
"""

from __future__ import annotations

from resnet_hub.ui.lab_text import LAB_TEXT

LANGUAGES = {"en": "English", "ja": "日本語"}

TEXT: dict[str, tuple[str, str]] = {
    # page
    "intro": (
        "See what a residual network makes of a photo, and take such networks apart.",
        "残差ネットワーク（ResNet）が写真を何と判断するかを見て、ネットワークの中身を確かめられます。",
    ),
    "privacy": (
        "Photos stay on the machine that runs this page. The files are deleted within ten minutes or so; small copies in the last answer go from memory once enough others have come.",
        "写真はこのページを動かしているコンピューターの外に送られず、ファイルは 10 分ほどで削除されます。最後の結果に含まれる小さなコピーは、ほかの利用者が増えるにつれてメモリからも消えます。",
    ),
    "tab_classify": ("Classify", "分類"),
    "tab_cards": ("Cards", "モデルカード"),
    # inputs
    "photo": ("Photo", "写真"),
    "drop": ("Drop a photo here, or click to choose one", "ここに写真をドロップするか、クリックして選択"),
    "model": ("Model", "モデル"),
    "model_info": (
        "Those that ship with the app know ten things only: airplane, automobile, bird, cat, deer, dog, "
        "frog, horse, ship, truck. Whatever the photo shows, they name one of these.",
        "アプリに同梱のモデルが知っているのは 10 種類だけです（飛行機・自動車・鳥・猫・鹿・犬・"
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
    "latency": ("Time in the network: {milliseconds} ms", "推論時間：{milliseconds} ミリ秒"),
    "calibrated": (
        "Whoever trained the model calibrated the shares on pictures kept out of training, so that guesses given "
        "80 % are right about 80 % of the time.",
        "確率は、80 % とされた候補がおよそ 80 % の割合で正解になるように、モデルの作成者が学習に使わなかった画像で"
        "較正しています。",
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
    "look_again": (
        "The model has changed since then. Classify the photo again.",
        "その後モデルが更新されました。もう一度分類してください。",
    ),
    "look_first": ("Classify a photo first.", "先に写真を分類してください。"),
    # explore: controls
    "tab_explore": ("Explore", "設計を試す"),
    "explore_intro": (
        "Change the stem, the strides or the input size of a real ResNet and watch its feature maps, receptive field and cost. "
        "A and B start as the same ResNet-50 on 32×32 pictures, once with ImageNet's stem and once with CIFAR's.",
        "本物の ResNet のステム・ストライド・入力サイズを変えると、特徴マップの大きさ・受容野・計算量がどう変わるかが"
        "すぐに分かります。最初は 32×32 の画像に対する ResNet-50 で、A は ImageNet 用、B は CIFAR 用のステムです。",
    ),
    "explore_choices": (
        "Stem: the first layer, ImageNet's 7×7 with stride 2, CIFAR's 3×3 with stride 1, or deep, three 3×3, the first with stride 2. "
        "Strides: one for each stage. Shortcut: what stands beside a block where its shape changes. "
        "Stride in: the convolution of a bottleneck that strides, v1.5 as in torchvision and timm, v1 as in the paper.",
        "ステム：最初の層。ImageNet は 7×7・ストライド 2、CIFAR は 3×3・ストライド 1、deep は 3×3 を 3 層（最初だけストライド 2）。"
        "ストライド：ステージごとに 1 つ。ショートカット：形が変わるブロックで、入力と出力をつなぐ経路。"
        "縮小する層：ボトルネックのどの畳み込みにストライドを置くか（v1.5 は torchvision と timm、v1 は論文）。",
    ),
    "design": ("Design {name}", "設計 {name}"),
    "network": ("Network", "ネットワーク"),
    "input_size": ("Input (H×W)", "入力（H×W）"),
    "stem": ("Stem", "ステム"),
    "stem_imagenet": ("ImageNet", "ImageNet"),
    "stem_cifar": ("CIFAR", "CIFAR"),
    "stem_deep": ("deep", "deep"),
    "strides": ("Strides", "ストライド"),
    "maxpool": ("Max pooling after the stem", "ステムの後に最大プーリング"),
    "stride_in": ("Stride in", "縮小する層"),
    "stride_in_3x3": ("3×3 (v1.5)", "3×3（v1.5）"),
    "stride_in_1x1": ("1×1 (v1)", "1×1（v1）"),
    "shortcut": ("Shortcut", "ショートカット"),
    "shortcut_projection": ("projection", "射影"),
    "shortcut_zeropad": ("zero padding", "ゼロパディング"),
    "shortcut_none": ("none", "なし"),
    "only_size": (
        "{network} has no residual blocks: only its input size can be changed here.",
        "{network} には残差ブロックがないため、ここで変えられるのは入力サイズだけです。",
    ),
    # explore: what is wrong with a design
    "design_network": (
        "There is no network “{seen}”. Choose one of: {allowed}.",
        "「{seen}」というネットワークはありません。次の中から選んでください：{allowed}",
    ),
    "design_size": (
        "Input size “{seen}” is not a size. Give one number or height×width, for example 32 or 96x64.",
        "入力サイズ「{seen}」は読み取れません。32 や 96x64（高さ×幅）のように入力してください。",
    ),
    "design_size_range": (
        "Input size {seen} is out of bounds. Each side may have {least} to {most} pixels.",
        "入力サイズ {seen} は範囲外です。一辺は {least}〜{most} 画素にしてください。",
    ),
    "design_strides": (
        "Strides “{seen}” are not numbers. Give one for each stage, for example 1,2,2,2.",
        "ストライド「{seen}」は数として読み取れません。1,2,2,2 のようにステージごとに入力してください。",
    ),
    "design_strides_count": (
        "Strides “{seen}” do not fit: {network} has {count} stages. Give {count} numbers.",
        "ストライド「{seen}」の個数が合いません。{network} は {count} ステージなので、{count} 個の数を入力してください。",
    ),
    "design_strides_range": (
        "Strides “{seen}” are out of bounds. Each may be {least} to {most}.",
        "ストライド「{seen}」は範囲外です。それぞれ {least}〜{most} にしてください。",
    ),
    "design_word": (
        "{field} “{seen}” is not known. Choose one of: {allowed}.",
        "{field}「{seen}」は使えません。次の中から選んでください：{allowed}",
    ),
    "design_idle": (
        "{field} “{seen}” would change nothing on {network}, which takes {allowed}. Leave {field} out.",
        "{network} では {field}「{seen}」は何も変えません（変えられるもの：{allowed}）。{field} は指定しないでください。",
    ),
    "design_nothing_left": (
        "Nothing is left of the picture for layer {layer}. Give {least} pixels a side or more.",
        "画像が小さすぎて、層 {layer} に渡るものが残りません。一辺を {least} 画素以上にしてください。",
    ),
    "design_address": (
        "“{seen}” is no design. One looks like resnet50.32 or resnet18.96x64.stem-cifar.strides-1-2-2-2.",
        "「{seen}」は設計として読み取れません。resnet50.32 や resnet18.96x64.stem-cifar.strides-1-2-2-2 のような形です。",
    ),
    "address_wrong": (
        "The address of this page asks for a design that cannot be, so the usual one is shown. {why}",
        "このページのアドレスが指定する設計は作れないため、最初の設計を表示しています。{why}",
    ),
    # explore: what is shown
    "map_picture": ("picture", "画像"),
    "maps_title": ("{design}: feature maps from the picture to the last stage", "{design}：画像から最後のステージまでの特徴マップ"),
    "maps_caption": (
        "Height and width to scale, the same for A and B; depth stands for channels. Orange: fewer than 3 positions a side.",
        "縦横は実際の比率（A と B で共通の縮尺）、奥行きはチャンネル数を表します。橙色：一辺が 3 未満。",
    ),
    "column_stage": ("stage", "ステージ"),
    "column_map": ("map", "マップ"),
    "column_field": ("sees", "受容野"),
    "column_jump": ("stride", "ストライド"),
    "column_padded": ("padding", "パディング"),
    "column_params": ("params", "パラメータ"),
    "column_macs": ("MACs", "MACs"),
    "column_memory": ("memory", "メモリ"),
    "column_layer": ("layer", "層"),
    "column_op": ("op", "種類"),
    "column_kernel": ("kernel", "カーネル"),
    "op_conv": ("convolution", "畳み込み"),
    "op_batch_norm": ("batch norm", "バッチ正規化"),
    "op_relu": ("ReLU", "ReLU"),
    "op_tanh": ("tanh", "tanh"),
    "op_dropout": ("dropout", "ドロップアウト"),
    "op_max_pool": ("max pooling", "最大プーリング"),
    "op_avg_pool": ("average pooling", "平均プーリング"),
    "op_global_avg_pool": ("global average pooling", "大域平均プーリング"),
    "op_global_max_pool": ("global max pooling", "大域最大プーリング"),
    "op_zero_pad": ("zero padding", "ゼロパディング"),
    "op_linear": ("linear", "全結合"),
    "stages_title": ("Stage by stage", "ステージごと"),
    "columns_explained": (
        "map: channels × height × width. sees: side of the square of the picture one position depends on (receptive field). "
        "stride: pixels from one position to the next. padding: share of what the windows read that is padding. MACs: multiply-adds for one picture. memory: the maps in fp32.",
        "マップ：チャンネル×高さ×幅。受容野：1 つの位置が影響を受ける画像上の正方形の一辺。ストライド：隣の位置までの画素数（累積）。パディング：窓が読み取る値のうち、パディングが占める割合。"
        "MACs：画像 1 枚あたりの積和演算。メモリ：特徴マップを fp32 で保持した場合。",
    ),
    "curve_side": ("Shorter side of the map, pixels", "マップの短辺（画素）"),
    "curve_field": ("Receptive field, pixels", "受容野（画素）"),
    "curve_depth": ("convolutions and poolings passed", "通過した畳み込みとプーリングの数"),
    "curves_caption": (
        "Logarithmic. Dotted: the picture's shorter side. A receptive field far above it looks mostly at padding.",
        "対数目盛。点線は画像の短辺です。受容野がこれを大きく超えると、見ているのはほとんど画像の外側になります。",
    ),
    "totals_title": ("A and B compared", "A と B の比較"),
    "total_params": ("parameters", "パラメータ数"),
    "total_macs": ("multiply-adds", "積和演算（MACs）"),
    "total_activation_bytes": ("maps in memory", "特徴マップのメモリ"),
    "total_field": ("receptive field", "受容野"),
    "total_last": ("last map", "最後のマップ"),
    "difference": ("B − A", "B − A"),
    "layers_title": ("Every layer", "すべての層"),
    # explore: advice; the English is advice.py's own
    "advice_title": ("What to know about this design", "この設計について"),
    "advice_none": (
        "Nothing to object to: map, receptive field and padding are in proportion at this size.",
        "特に問題はありません。この入力サイズに対して、マップ・受容野・パディングの釣り合いが取れています。",
    ),
    "advice_residual_only": (
        "Advice is given for residual networks only.",
        "助言は残差ネットワークに対してのみ行います。",
    ),
    "advice_apply": ("Apply {change}", "「{change}」にする"),
    "advice_measured": (
        "Measured with ResNet-18 ({images:,} pictures of {data}, {epochs} epochs): {imagenet:.1%} with this stem, "
        "{cifar:.1%} with CIFAR's.",
        "実測（ResNet-18、{data} の {images:,} 枚、{epochs} エポック）：このステムで {imagenet:.1%}、CIFAR 用ステムで {cifar:.1%}。",
    ),
    "advice_no_change": ("No single change mends it.", "一か所の変更だけでは直りません。"),
    "on": ("on", "あり"),
    "off": ("off", "なし"),
    "advice_last_map_small": (
        "{why}",
        "最後のステージの {out_size[0]}×{out_size[1]} の位置には、画像のどこに何があったかという情報がほとんど残っていません。",
    ),
    "advice_padding_over_half": (
        "{why}",
        "{layers} 個の層が、マップの中身よりパディングを多く読んでいます（{layer} では {share:.0%}）。",
    ),
    "advice_field_far_above": (
        "{why}",
        "受容野の {receptive_field} 画素は画像の {times:.1f} 倍です（公開されている {network} では {published_times:.1f} 倍）。"
        "後ろの層が見ているのは、ほとんど画像の外側です。",
    ),
    "advice_field_far_below": (
        "{why}",
        "どの位置からも {side} 画素中 {receptive_field} 画素までしか見えないため、大きなものの全体は捉えられません。",
    ),
    "advice_stem_keeps_large_picture": (
        "{why}",
        "ステムが画像を元の大きさのまま渡すため、積和演算が ImageNet 用ステムの {times:.1f} 倍になります。",
    ),
    "advice_size_rounded": (
        "{why}",
        "入力サイズが {jump} の倍数でない（余りは縦 {rest[0]}・横 {rest[1]} 画素）ため、端の位置は一部がパディングで埋められます。",
    ),
    "advice_size_cut": (
        "{why}",
        "入力サイズが {jump} の倍数でない（余りは縦 {rest[0]}・横 {rest[1]} 画素）ため、プーリングで右端・下端の余った列・行が切り捨てられます。",
    ),
    "advice_weights_mean_something_else": (
        "{why}",
        "この重みは timm や torchvision の {network} にもエラーなく読み込めますが、計算結果は別物になります"
        "（{fields} を伝える手段がないため）。",
    ),
    # explore: on a real picture
    "run_title": ("On a real picture", "実際の画像で"),
    "run": ("Run A and B on this picture", "この画像で A と B を動かす"),
    "run_waiting": (
        "Give it a picture and press the button: the first channels of each stage appear here.",
        "画像を入れてボタンを押すと、各ステージの最初のチャンネルがここに表示されます。",
    ),
    "run_no_picture": ("Choose a picture first.", "先に画像を選んでください。"),
    "run_seen": ("what the network sees: {width}×{height}", "ネットワークに見える画像：{width}×{height}"),
    "run_random": (
        "Random weights: the maps show how much of the picture's layout is left, not what a trained network would find.",
        "重みはランダムです。画像内の位置関係がどれだけ残っているかは分かりますが、学習済みのネットワークが何を捉えるかは分かりません。",
    ),
    "run_trained": ("Trained weights: {source}.", "学習済みの重み：{source}"),
    "run_other_size": (
        "They were trained on {size} pictures, so at this size they see nothing they know.",
        "学習時の画像は {size} なので、この大きさでは、学習した特徴をほとんど見つけられません。",
    ),
    "run_more": ("channels 1 to {shown} of {count}", "{count} チャンネル中 1〜{shown}"),
    "run_too_much": (
        "Design {name} would take {macs} multiply-adds and {memory} of memory; {most_macs} and {most_memory} is the most "
        "that is run here. Choose a smaller picture, a stem that strides, or a smaller network.",
        "設計 {name} には積和演算 {macs} 回とメモリ {memory} が必要です。ここで動かせるのは {most_macs} 回・{most_memory} までです。"
        "画像を小さくするか、ストライドのあるステム、または小さなネットワークを選んでください。",
    ),
    "run_impossible": ("Design {name} cannot be built as it stands.", "設計 {name} はこのままでは作れません。"),
    "run_colours": (
        "Each channel from its lowest value (dark) to its highest (bright). A map of one position is a single number, so a single colour.",
        "チャンネルごとに、最小値（暗）から最大値（明）まで。1×1 のマップは数値が 1 つだけなので、1 色になります。",
    ),
    # explore: take it away
    "take_title": ("Take it away", "持ち帰る"),
    "take_link": ("Copy the link to A and B", "A と B へのリンクをコピー"),
    "take_python": ("Copy the Python", "Python をコピー"),
    "take_csv": ("Layers, CSV", "層の表 CSV"),
    "take_svg": ("Drawing, SVG", "図 SVG"),
    "take_png": ("Drawing, PNG", "図 PNG"),
    "take_done": ("Copied", "コピーしました"),
    # compare
    "tab_compare": ("Compare", "比べる"),
    "compare_intro": (
        "One photo through one of our models and through timm's. Is ours the same network, number for number? And what do "
        "other architectures say of the same photo? Each model gets the photo through its own preprocessing.",
        "1 枚の写真を、このプロジェクトのモデルと timm のモデルの両方に渡します。このプロジェクトの実装は timm と数値まで一致するのか、"
        "ほかのアーキテクチャは同じ写真をどう判断するのかを確かめられます。前処理はそれぞれのモデルのものを使います。",
    ),
    "compare_reference": ("Beside it", "比べる相手"),
    "compare_reference_info": (
        "Up to {most}. counterpart: the model above once more, out of timm's parts and with the same weights copied across; needs no "
        "network. Every other name loads timm's pretrained weights. Type to search all of timm's models.",
        "{most} つまで。counterpart は、上のモデルと同じネットワークを timm の部品で作り、同じ重みをコピーしたもので、通信は不要です。"
        "ほかの名前は timm の学習済みの重みを読み込みます。文字を入力すると timm の全モデルから探せます。",
    ),
    "compare_waiting": (
        "Give it a photo and press Compare: both answers appear here.",
        "写真を入れて「比べる」を押すと、両方の答えがここに並びます。",
    ),
    "compare_go": ("Compare", "比べる"),
    "compare_measure": ("Measure their speed", "推論時間を測る"),
    "compare_measure_info": (
        "Latency: one picture, median of warm repeats, on the machine that runs this page. Measured once for each model and kept.",
        "推論時間：画像 1 枚あたり。このページを動かしているコンピューターで、ウォームアップ後に繰り返し測った中央値です。モデルごとに一度だけ測り、その値を使い続けます。",
    ),
    "compare_first": ("Compare a photo first.", "先に写真を比べてください。"),
    "compare_called_ours": ("{name} (ours)", "{name}（このプロジェクト）"),
    "compare_called_copied": ("timm {name}, our weights", "timm {name}（同じ重み）"),
    "compare_called_pretrained": ("timm {name}", "timm {name}"),
    "compare_weights_ours": ("Weights: {origin}.", "重み：{origin}"),
    "compare_weights_copied": (
        "The weights of {origin}, copied across; no weights of timm's are in it. Built as timm {built}.",
        "{origin} の重みをそのままコピー（timm の学習済みの重みは使っていません）。構成：timm の {built}",
    ),
    "compare_replaced": ("{name} with these parts replaced: {parts}", "{name}（次の部分を置き換え：{parts}）"),
    "compare_part_head": ("head", "分類層"),
    "compare_part_stages": ("stages", "ステージ"),
    "compare_part_stem": ("stem", "ステム"),
    "compare_part_shortcut": ("shortcut", "ショートカット"),
    "compare_part_strides": ("strides", "ストライド"),
    "compare_part_pooling": ("pooling", "プーリング"),
    "built_ResNet of basic blocks": ("ResNet of basic blocks", "ResNet（基本ブロック）"),
    "built_ResNet of bottleneck blocks": ("ResNet of bottleneck blocks", "ResNet（ボトルネックブロック）"),
    "comma": (", ", "、"),
    "semicolon": ("; ", "；"),
    "compare_weights_pretrained": ("timm's weights: {origin}.", "timm の重み：{origin}"),
    "compare_agree": ("Same first guess.", "第 1 候補が一致。"),
    "compare_disagree": ("Another first guess.", "第 1 候補が不一致。"),
    "compare_shared": ("{count} of the {of} best guesses are shared.", "上位 {of} 候補のうち {count} 個が共通です。"),
    "compare_mapped": (
        "In our model's ten classes it says {label}; {share} of its probability is on these ten, the rest on other things.",
        "10 クラスに置き換えると「{label}」です。この 10 クラスに当たる確率は合計 {share} で、残りは別のものです。",
    ),
    "compare_none_of_ours": ("none of the ten", "10 クラス以外"),
    "compare_incomparable": ("not comparable", "比較不可"),
    "compare_other_labels": (
        "Not comparable: ours knows {ours} classes, this one {theirs} others. Guesses are shown as they are.",
        "クラスが違うため比較できません（こちらは {ours} クラス、相手は {theirs} クラス）。候補はそのまま表示しています。",
    ),
    "compare_facts": ("Size and cost", "大きさと計算量"),
    "compare_input": ("input", "入力"),
    "compare_classes": ("classes", "クラス数"),
    "compare_latency": ("latency", "推論時間"),
    "compare_unmeasured": ("not measured", "未測定"),
    "compare_differences": ("How far apart: ours and {name}", "差：このプロジェクトと {name}"),
    "compare_logits": (
        "Logits differ by {absolute} at most, {relative} of the largest.",
        "ロジットの差は最大 {absolute}（ロジットの最大値の {relative} 倍）です。",
    ),
    "compare_identical": ("Every logit is the same, to the last bit.", "すべてのロジットが最後のビットまで同じです。"),
    "compare_no_logits": (
        "Their classes differ, so only the feature maps are compared.",
        "クラスが違うため、特徴マップだけを比べています。",
    ),
    "compare_our_input": (
        "For these numbers both were given our model's input.",
        "この数値では、どちらにもこちらのモデルと同じ入力を与えています。",
    ),
    "compare_decades": (
        "Largest difference of each stage's map over the map's largest value, by powers of ten. 0: every bit is the same. Dashed: 1e-5, what the order of "
        "fp32 sums explains. Far to the right of it: other weights, or another network.",
        "各ステージの特徴マップの最大差を、そのマップの最大値で割ったもの（対数目盛）。0 はビットまで同じ。破線は 1e-5 で、fp32 の計算順序の違いだけで生じうる差です。"
        "それより大きく右に出る場合は、重みかネットワークが違います。",
    ),
    "compare_efficientnet_title": ("EfficientNet: compound scaling", "EfficientNet：複合スケーリング"),
    "compare_efficientnet": (
        "A ResNet grows by depth alone: 18, 34, 50, 101, 152 layers. EfficientNet (2019) grows depth, width and input size together: "
        "one step multiplies them by 1.2, 1.1 and 1.15, which about doubles the multiply-adds (1.2 × 1.1² × 1.15² ≈ 1.92). Its blocks "
        "are inverted bottlenecks: wide inside, thin outside, with a depthwise convolution and squeeze-and-excitation between. That "
        "makes few multiply-adds but many memory moves, so on a CPU or GPU it is slower than its multiply-adds promise: compare the latency.",
        "ResNet は層の数（18・34・50・101・152）だけで大きくなります。EfficientNet（2019）は深さ・幅・入力サイズを同時に伸ばし、1 段ごとに "
        "1.2 倍・1.1 倍・1.15 倍にします。積和演算はおよそ 2 倍になります（1.2 × 1.1² × 1.15² ≈ 1.92）。ブロックは外側が細く内側が広い"
        "逆ボトルネックで、間に depthwise 畳み込みと squeeze-and-excitation が入ります。積和演算は少ない一方でメモリの読み書きが多く、"
        "CPU や GPU では積和演算の回数から想像するほど速くありません。推論時間を測って比べてみてください。",
    ),
    "compare_vit_title": ("Vision Transformer: patches", "Vision Transformer：パッチ"),
    "compare_vit": (
        "A ViT (2020) has no convolutions after the first step. It cuts the picture into patches of 16×16 pixels, 14 × 14 = 196 at 224, makes "
        "each a vector by one linear map, adds where it was, and lets every patch look at every other through attention in every layer. "
        "So its first layer sees the whole picture already, where a ResNet's receptive field grows layer by layer. Nothing tells it that "
        "neighbouring pixels belong together: it learns that from data, and on small data sets a ResNet is ahead. Its maps keep one size from "
        "first layer to last, so its stages have no counterpart here.",
        "ViT（2020）は最初の段より後に畳み込みがありません。画像を 16×16 画素のパッチに切り分け（224 なら 14×14＝196 個）、それぞれを線形変換で"
        "ベクトルにし、位置の情報を足して、各層の注意機構ですべてのパッチが互いを参照します。そのため最初の層から画像全体が見えています。"
        "ResNet の受容野が層ごとに広がるのとは対照的です。隣り合う画素が関係していることは教わらず、データから学ぶため、データが少ないときは "
        "ResNet のほうが有利です。マップの大きさは最初から最後まで変わらず、ResNet のステージに対応するものはありません。",
    ),
    "reference_unknown": (
        "timm has no model “{name}”. Choose one from the list or type another name.",
        "timm に「{name}」というモデルはありません。一覧から選ぶか、別の名前を入力してください。",
    ),
    "reference_not_offered": (
        "{name} is not offered on this page. Choose a reference from the list.",
        "{name} はこのページでは使えません。一覧から選んでください。",
    ),
    "reference_no_counterpart": (
        "timm's parts cannot make {name}, so there is nothing to copy the weights into. Choose another reference.",
        "{name} は timm の部品では作れないため、重みのコピー先がありません。別の相手を選んでください。",
    ),
    "reference_too_large": (
        "{name} is too large for this machine: {megabytes} MB of weights, {most} MB is the most that is loaded here.",
        "{name} はこのコンピューターには大きすぎます（重み {megabytes} MB、読み込めるのは {most} MB まで）。",
    ),
    "reference_no_weights": (
        "timm offers no pretrained weights for {name}.",
        "timm には {name} の学習済みの重みがありません。",
    ),
    "reference_unreachable": (
        "The weights of {name} cannot be downloaded: the Hub is out of reach. Check the connection and compare again.",
        "{name} の重みをダウンロードできません（Hub に接続できません）。通信を確かめて、もう一度比べてください。",
    ),
    "reference_unusable": (
        "The weights of {name} cannot be used: {why}. Choose another reference.",
        "{name} の重みを使えません。別の相手を選んでください。詳細（英語）：{why}",
    ),
    "reference_size": ("It has {parameters} parameters and takes {macs} MACs.", "パラメータ数は {parameters}、積和演算は {macs} 回です。"),
    "reference_most": ("At most {most} references at a time.", "一度に比べられる相手は {most} つまでです。"),
    "compare_many": ("Several photos", "複数の写真"),
    "compare_files": ("Photos", "写真"),
    "compare_many_go": ("Compare them all", "まとめて比べる"),
    "compare_many_none": ("Choose some photos first.", "先に写真を選んでください。"),
    "compare_many_most": ("At most {most} photos at a time.", "一度に比べられる写真は {most} 枚までです。"),
    "compare_many_title": ("First guesses on {count} photos", "写真 {count} 枚の第 1 候補"),
    "compare_file": ("photo", "写真"),
    "compare_confusion": (
        "Ours against {name}: {same} of {of} agree ({share})",
        "このプロジェクトと {name}：{of} 枚中 {same} 枚が一致（{share}）",
    ),
    "compare_confusion_read": (
        "Rows: what ours says. Columns: what the reference says. Neither is taken for the truth.",
        "行：このプロジェクトの答え、列：相手の答え。どちらが正しいかは問いません。",
    ),
    # compare: family guide
    "family": ("Which network to choose", "どのネットワークを選ぶか"),
    "family_intro": (
        "All networks of this project; press a heading to sort. Accuracies are top-1 and only comparable within one data set.",
        "このプロジェクトの全ネットワーク。見出しを押すと並べ替えます。精度は top-1 で、比べられるのは同じデータの中だけです。",
    ),
    "family_network": ("network", "ネットワーク"),
    "family_input": ("input", "入力"),
    "family_accuracy": ("top-1", "top-1"),
    "family_latency": ("latency", "推論時間"),
    "family_use": ("for", "用途"),
    "family_measure": ("Measure all on this machine", "このコンピューターで全部測る"),
    "family_measured": ("measured here", "実測"),
    "family_published": ("published", "公表値"),
    "family_sources": (
        "Measured: the shipped checkpoints' cards, on CIFAR-10 re-encoded as JPEG. Published: torchvision's metadata of its IMAGENET1K_V1 weights (ImageNet), "
        "the paper's table 6 (CIFAR-10). Nothing stands where nobody measured.",
        "実測：同梱チェックポイントのモデルカード（JPEG で保存し直した CIFAR-10）。公表値：torchvision の IMAGENET1K_V1 のメタデータ（ImageNet）、論文の表 6（CIFAR-10）。測定のないところは空欄です。",
    ),
    # what each network is for; the English is family.py's own
    "use_resnet18": ("{use}", "写真を扱うとき、最初に試すモデル。データが少ないときのファインチューニングや小さなマシン向き"),
    "use_resnet34": ("{use}", "18 より高精度で計算は約 2 倍。ボトルネックなし"),
    "use_resnet50": ("{use}", "写真での定番：基準モデル、バックボーン、ファインチューニング"),
    "use_resnet101": ("{use}", "50 では足りない物体検出・セグメンテーションのバックボーン"),
    "use_resnet152": ("{use}", "時間をかけてでも精度を少し上げたいとき"),
    "use_wide_resnet50_2": ("{use}", "深さの代わりに幅。152 の 3 分の 1 の層数で同等の精度"),
    "use_plain18": ("{use}", "ショートカットの効果を見るための、ショートカットのない ResNet-18"),
    "use_plain34": ("{use}", "劣化問題を見るため：plain18 より深いのに精度が下がる"),
    "use_resnet18_cifar": ("{use}", "32×32 の画像での定番"),
    "use_resnet34_cifar": ("{use}", "32×32 でさらに深く。計算は 2 倍"),
    "use_resnet50_cifar": ("{use}", "32×32 でのボトルネック"),
    "use_resnet101_cifar": ("{use}", "CIFAR ステムで最も深い。GPU 向き"),
    "use_resnet20_cifar": ("{use}", "小さな画像・小さなマシン向き。2 コアで 30 分ほどで学習できる"),
    "use_resnet32_cifar": ("{use}", "論文にある、一つ大きいサイズ"),
    "use_resnet44_cifar": ("{use}", "論文にある、一つ大きいサイズ"),
    "use_resnet56_cifar": ("{use}", "論文の中で最もよく比較に使われるサイズ"),
    "use_resnet110_cifar": ("{use}", "論文の深さの実験：100 層を超えても学習できる"),
    "use_plain20_cifar": ("{use}", "ショートカットの効果を見るための、ショートカットのない ResNet-20"),
    "use_plain56_cifar": ("{use}", "56 層での劣化を見るため"),
    "use_wrn16_4_cifar": ("{use}", "32×32 で深さの代わりに幅。ブロック内にドロップアウト"),
    "use_wrn28_10_cifar": ("{use}", "Wide ResNet の論文の大きなネットワーク。GPU 向き"),
    "use_resnet8_cifar": ("{use}", "32×32 で、学習を短く済ませたいとき"),
    "use_simple_resnet": ("{use}", "読んで書き換えられる大きさの ResNet"),
    "use_lenet5": ("{use}", "出発点：手書き数字、1998 年"),
    "use_alexnet": ("{use}", "歴史：大きなカーネルと 5900 万の重みを持つ全結合層、2012 年"),
    "use_vgg16": ("{use}", "歴史：3×3 だけで 1 億 3800 万の重み、2014 年"),
    "use_vgg_cifar": ("{use}", "VGG の層にバッチ正規化。32×32 で ResNet と比べるため"),
    "use_cifar10net": ("{use}", "32×32 用の素朴な講義用ネットワーク"),
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
    "model_failed": ("The model could not be loaded. {why}.", "モデルを読み込めませんでした。詳細（英語）：{why}"),
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
        "画像が {max_mpx}00 万画素を超えています。縮小してからもう一度お試しください。",
    ),
    "image_truncated": (
        "The file breaks off in the middle. Copy or download it again.",
        "ファイルが途中で切れています。もう一度コピーまたはダウンロードしてください。",
    ),
    "image_unusable": ("The picture cannot be used: {why}", "この画像は使えません：{why}"),
    # cards
    "cards_intro": (
        "What its makers say of a model: how it was trained, what was measured, what it is not for. "
        "The models in memory are here, the last few that were used; choose another under Classify and it joins them.",
        "モデルについて作り手が述べていること：学習の方法、測定した数値、向かない用途。"
        "メモリにあるモデル（最近使われた数個）が並びます。「分類」で別のモデルを選ぶと、ここに加わります。",
    ),
    "card_model": ("Loaded model", "読み込み済みのモデル"),
    "card_choose": ("Choose a model.", "モデルを選んでください。"),
    "card_gone": (
        "“{model}” is no longer loaded. Classify a photo with it again.",
        "「{model}」はもう読み込まれていません。もう一度そのモデルで写真を分類してください。",
    ),
    "card_missing": ("“{model}” has no model card.", "「{model}」にはモデルカードがありません。"),
    "card_failed": ("The card could not be read. {why}.", "モデルカードを読み込めませんでした。詳細（英語）：{why}"),
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
} | LAB_TEXT  # fmt: skip


def say(language: str, key: str, **facts) -> str:
    """The text of `key` in a language ("en" or "ja"), with `facts` filled in."""
    return TEXT[key][list(LANGUAGES).index(language)].format(**facts)


def name_of(language: str, kind: str, name: str) -> str:
    """A label or data name in a language; itself where the table has no translation."""
    key = f"{kind}_{name}"
    return say(language, key) if key in TEXT else name


def percent(share: float, digits: int = 1) -> str:
    """0.873 -> "87.3 %" """
    return f"{100 * share:.{digits}f} %"


def known_language(language: str | None) -> str:
    """A language that a page or a program asked for; English where we do not speak it."""
    return language if language in [*LANGUAGES] else "en"


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

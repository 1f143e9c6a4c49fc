"""The sentences of the lab, the results, the exercises and the operations view, in English and Japanese.

Part of `text.py`'s table. Knows nothing of anything else.
"""

from __future__ import annotations

LAB_TEXT: dict[str, tuple[str, str]] = {
    "tab_lab": ("Lab", "実験室"),
    "lab_intro": (
        "Every idea of the course, live: move a control and watch what changes. All numbers are computed on the spot, except where a source is named.",
        "講座で扱う考え方を、実際に動かして確かめられます。つまみを動かすと結果が変わります。出典を記したもの以外、数値はすべてその場で計算しています。",
    ),
    "lab_topics": ("Topics", "テーマ"),
    "lab_failed": (
        "This cannot be computed. {why}. Change it, or open the topic again.",
        "この値では計算できません。値を変えるか、テーマを開き直してください。詳細（英語）：{why}",
    ),
    "lab_refused": ("{name}: “{seen}” is not possible. Give {allowed}.", "{name}：「{seen}」は使えません。指定できるのは {allowed} です。"),
    "lab_range": ("{least} to {most}", "{least}〜{most}"),
    "lab_grid_range": ("{height} rows of {width} whole numbers, {least} to {most}", "{height} 行 × {width} 列の整数（{least}〜{most}）"),
    "lab_a_picture": ("a picture file", "画像ファイル"),
    "lab_study": ("Measured, not only computed: ", "計算だけでなく、実測もしました："),
    # topics, as short as a phone wants them
    "lab_tab_residual": ("Identity", "恒等写像"),
    "lab_tab_shapes": ("Shapes", "ブロックの形"),
    "lab_tab_gradients": ("Gradients", "勾配"),
    "lab_tab_products": ("Products", "掛け算"),
    "lab_tab_batchnorm": ("BN: depth", "BN：深さ"),
    "lab_tab_modes": ("BN: modes", "BN：モード"),
    "lab_tab_bias": ("Conv-BN-ReLU", "Conv・BN・ReLU"),
    "lab_tab_cost": ("Block cost", "コスト"),
    "lab_tab_skips": ("Add or concat", "加算と連結"),
    "lab_tab_scaling": ("Scaling", "スケーリング"),
    "lab_tab_patches": ("Patches", "パッチ"),
    "lab_tab_timeline": ("Timeline", "年表"),
    "lab_tab_transfer": ("Transfer", "転移学習"),
    "lab_tab_dropout": ("Dropout", "ドロップアウト"),
    "lab_tab_pooling": ("Pooling", "プーリング"),
    "lab_tab_exercises": ("Exercises", "演習"),
    # shared words
    "lab_word_note": ("Often said otherwise:", "誤解されやすい点："),
    "lab_word_input": ("input", "入力"),
    "lab_word_input_size": ("picture, {height}×{width}", "画像 {height}×{width}"),
    "lab_word_shifted": ("input, one pixel to the right", "右に 1 画素ずらした入力"),
    "lab_word_max": ("maximum", "最大プーリング"),
    "lab_word_average": ("average", "平均プーリング"),
    "lab_word_with_skip": ("residual", "残差あり"),
    "lab_word_without_skip": ("plain", "プレーン（残差なし）"),
    "lab_word_with_norm": ("with batch norm", "バッチ正規化あり"),
    "lab_word_without_norm": ("without", "バッチ正規化なし"),
    "lab_word_branch": ("F(x)", "F(x)"),
    "lab_word_shortcut": ("shortcut", "ショートカット"),
    "lab_word_layer": ("layer", "層"),
    "lab_word_window": ("kernel", "カーネル"),
    "lab_word_shape": ("shape of its output", "出力の形"),
    "lab_word_weights": ("weights", "重みの数"),
    "lab_word_gradient_axis": ("Gradient norm of each convolution's weights", "各畳み込み層の重みの勾配ノルム"),
    "lab_word_layer_axis": ("layer, first to last", "層（入力側から順に）"),
    "lab_word_layers_axis": ("layers passed", "通過した層の数"),
    "lab_word_product_axis": ("What is left of 1", "1 から始めた積の値"),
    "lab_word_std_axis": ("Standard deviation of what enters each ReLU", "各 ReLU に入る値の標準偏差"),
    "lab_word_change_axis": ("Largest change of the output when the bias is added", "バイアスを足したときの出力の変化（最大値）"),
    "lab_word_weights_axis": ("Weights of the block's convolutions, layer by layer", "ブロック内の畳み込みの重みの数（層ごとに区切り）"),
    "lab_word_factor_axis": ("Times EfficientNet-B0", "EfficientNet-B0 に対する倍率"),
    "lab_word_channels_axis": ("Channels after each join", "合流後のチャンネル数"),
    "lab_word_error_axis": ("ILSVRC top-5 error (test set, ensembles)", "ILSVRC の top-5 誤り率（テストセット、アンサンブル）"),
    "lab_word_mean": ("mean", "平均"),
    "lab_word_std": ("standard deviation", "標準偏差"),
    "lab_word_fed": ("what is fed in", "入力の分布"),
    "lab_word_stored": ("what the layer has stored", "層が覚えている値"),
    "lab_word_train_out": ("output in train mode", "学習モードの出力"),
    "lab_word_eval_out": ("output in eval mode", "評価モードの出力"),
    "lab_word_before": ("before", "適用前"),
    "lab_word_after": ("after (struck out: zeroed)", "適用後（斜線：0 にされた値）"),
    "lab_word_basic": ("basic", "基本ブロック"),
    "lab_word_bottleneck": ("bottleneck", "ボトルネック"),
    "lab_word_scale_depth": ("depth (layers)", "深さ（層数）"),
    "lab_word_scale_width": ("width (channels)", "幅（チャンネル数）"),
    "lab_word_scale_resolution": ("resolution (a side of the picture)", "解像度（画像の一辺）"),
    "lab_word_patches": ("{across}×{across} patches of a {size}×{size} picture", "{size}×{size} の画像を {across}×{across} 個のパッチに分割"),
    "lab_word_added": ("addition (ResNet)", "加算（ResNet）"),
    "lab_word_concatenated": ("concatenation (DenseNet)", "連結（DenseNet）"),
    "lab_word_join": ("join", "合流のしかた"),
    "lab_word_network": ("network", "ネットワーク"),
    "lab_word_params": ("parameters", "パラメータ数"),
    "lab_word_macs": ("multiply-adds", "積和演算"),
    "lab_word_latency": ("time here", "推論時間（実測）"),
    "lab_word_use": ("choose it for", "向いている用途"),
    "lab_word_story": ("what it brought, and when to choose it", "何をもたらしたか・どんなときに選ぶか"),
    "lab_word_family": ("Which ResNet?", "どの ResNet を選ぶ？"),
    "lab_word_frozen": ("frozen", "凍結"),
    "lab_word_stage": ("stage", "ステージ"),
    "lab_word_rate": ("learning rate (AdamW)", "学習率（AdamW）"),
    # shared controls
    "lab_control_kernel": ("Window size", "窓の大きさ"),
    "lab_control_stride": ("Stride", "ストライド"),
    "lab_control_padding": ("Padding", "パディング"),
    "lab_control_depth": ("Convolutions", "畳み込み層の数"),
    "lab_control_layers": ("Layers", "層の数"),
    "lab_control_channels": ("Channels", "チャンネル数"),
    "lab_control_in_channels": ("Channels in", "入力チャンネル数"),
    "lab_control_out_channels": ("Channels out", "出力チャンネル数"),
    "lab_control_size": ("Side in pixels", "一辺の画素数"),
    "lab_control_network": ("Network", "ネットワーク"),
    # pooling
    "lab_pooling_title": ("Pooling", "プーリング"),
    "lab_pooling_about": (
        "A window slides over the map and leaves one number: its largest or its average. Edit the numbers; a line through a "
        "cell means that no maximum comes from it. The grid starts as the map of a vertical edge.",
        "窓をずらしながら、その中の最大値または平均値だけを残します。数値は書き換えられます。斜線のセルは、どの窓の最大値にも"
        "選ばれなかった値です。最初のグリッドは、縦のエッジに反応した特徴マップです。",
    ),
    "lab_pooling_note": (
        "a mirror image is no shift. Move the input by a single pixel, and the pooled map usually changes: with a stride, pooling is only roughly blind to shifts. And PyTorch's MaxPool2d takes (N, C, H, W) or (C, H, W); a fifth axis is an error.",
        "左右反転はシフトではありません。1 画素ずらすだけでも、プーリング後の値はたいてい変わります。ストライドのあるプーリングが「平行移動に強い」というのは、おおよその話です。また、PyTorch の MaxPool2d が受け取るのは (N, C, H, W) か (C, H, W) で、5 次元のテンソルはエラーになります。",
    ),
    "lab_pooling_input": ("What is pooled", "プーリングする対象"),
    "lab_pooling_input_grid": ("numbers to edit", "数値のグリッド（編集可）"),
    "lab_pooling_input_photo": ("a photo", "写真"),
    "lab_pooling_grid": ("Numbers, −9 to 9", "数値（−9〜9）"),
    "lab_pooling_photo": ("Your photo (else the example)", "写真を選ぶ（なければ例の画像）"),
    "lab_pooling_shift": ("Shift by one pixel and compare", "1 画素ずらして比べる"),
    "lab_pooling_says": (
        "{max_dropped} of the input values decide no maximum; {average_dropped} enter no average. "
        "Global average pooling leaves {average}, global max pooling {highest}.",
        "入力値のうち {max_dropped} は最大値に選ばれず、{average_dropped} はどの平均にも入りません。"
        "グローバル平均プーリングの結果は {average}、グローバル最大プーリングは {highest} です。",
    ),
    "lab_pooling_photo_says": (
        "{max_dropped} of the values decide no maximum; {average_dropped} enter no average. "
        "Global average pooling leaves one number a channel: {colour}.",
        "値のうち {max_dropped} は最大値に選ばれず、{average_dropped} はどの平均にも入りません。"
        "グローバル平均プーリングではチャンネルごとに 1 つの数だけが残ります：{colour}",
    ),
    "lab_pooling_shift_says": (
        "One pixel to the right, {max_changed} of the maxima and {average_changed} of the averages are different (orange on the grid).",
        "右に 1 画素ずらすと、最大値の {max_changed}、平均値の {average_changed} が変わりました（グリッドでは橙色の枠）。",
    ),
    "lab_pooling_thin": ("The picture is smaller than the window. Choose a smaller window.", "画像が窓より小さいため計算できません。窓を小さくしてください。"),
    "lab_pooling_padded": (
        "Padding may be half the window at most, or a window would see nothing but padding. Choose less, or a larger window.",
        "パディングは窓の大きさの半分までです（それを超えると、パディングしか見ない窓ができます）。パディングを減らすか、窓を大きくしてください。",
    ),
    # residual
    "lab_residual_title": ("The identity is easy", "恒等写像は簡単"),
    "lab_residual_about": (
        "A random map goes through a real block, once with a shortcut and once without. At branch strength 0 the residual block hands its input on unchanged, while the plain one loses everything: a plain block would have to learn the identity, a residual one is the identity as soon as F(x) is 0.",
        "ランダムなマップを、ショートカットのある本物のブロックと、ないブロックに通します。F(x) の強さを 0 にすると、残差ブロックは入力をそのまま返し、プレーンなブロックではすべてが失われます。プレーンなブロックは恒等写像を学習しなければなりませんが、残差ブロックは F(x) が 0 になるだけで恒等写像になります。",
    ),
    "lab_residual_note": (
        "this makes the shallower solution easier to reach; it does not guarantee that a deeper net is at least as good. And “equal to its input” "
        "holds for inputs without negative values, since a ReLU follows the addition.",
        "浅いネットワークと同じ解に届きやすくなるだけで、「深くしても必ず同等以上」という保証ではありません。また、加算の後に ReLU があるため、"
        "出力が入力と等しくなるのは入力に負の値がないときです。",
    ),
    "lab_residual_strength": ("Strength of the branch F(x)", "F(x) の強さ"),
    "lab_residual_negative": ("Input with negative values too", "入力に負の値も含める"),
    "lab_residual_says": (
        "Largest difference between output and input: {difference} with the shortcut, {plain_difference} without (channel 0 of 8 is drawn).",
        "出力と入力の差の最大値は、ショートカットありで {difference}、なしで {plain_difference} です（図は 8 チャンネルのうち最初の 1 つ）。",
    ),
    # shapes
    "lab_shapes_title": ("Shapes through a block", "ブロックの中での形の変化"),
    "lab_shapes_about": (
        "N feature maps go in, each with channels, height and width; each convolution changes some of these. Where in and out differ, the shortcut needs a convolution too.",
        "N 枚分の特徴マップ（チャンネル数×高さ×幅）が入り、畳み込みごとに形が変わります。入口と出口の形が違うときは、ショートカットにも畳み込みが必要です。",
    ),
    "lab_shapes_note": (
        "“expansion 4” means four times the block's inner width, not four times its input: with 256 channels in and out the inside has 64.",
        "「expansion 4」はブロック内側の幅の 4 倍という意味で、入力の 4 倍ではありません。入出力が 256 チャンネルなら内側は 64 です。",
    ),
    "lab_shapes_block": ("Block", "ブロック"),
    "lab_shapes_block_basic": ("basic: 3×3, 3×3", "基本：3×3、3×3"),
    "lab_shapes_block_bottleneck": ("bottleneck: 1×1, 3×3, 1×1", "ボトルネック：1×1、3×3、1×1"),
    "lab_shapes_says": (
        "{inside} goes in, {out} comes out; {params} parameters, batch norms included.",
        "入力 {inside} に対して出力は {out}。パラメータはバッチ正規化を含めて {params} 個です。",
    ),
    "lab_shapes_identity": ("In and out have the same shape, so the shortcut is x itself and costs nothing.", "入口と出口の形が同じなので、ショートカットは x そのもの（コスト 0）です。"),
    "lab_shapes_projection": (
        "In and out differ, so the shortcut projects: a 1×1 convolution and a batch norm.",
        "入口と出口の形が違うので、ショートカットは 1×1 畳み込みとバッチ正規化で形を合わせます（射影）。",
    ),
    # gradients
    "lab_gradients_title": ("Gradient flow", "勾配の流れ"),
    "lab_gradients_about": (
        "Two real networks of 3×3 convolutions, 16 channels, freshly initialised: one loss, one backward pass, the size of the gradient at each layer. "
        "y = x + F(x) gives dy/dx = 1 + F′(x): the “+1” is the shortcut's share.",
        "3×3 畳み込み（16 チャンネル）を重ねた本物のネットワーク 2 つを初期化し、損失を 1 回逆伝播して、各層の勾配の大きさを測ります。"
        "y = x + F(x) なら dy/dx = 1 + F′(x) で、この「+1」がショートカットの分です。",
    ),
    "lab_gradients_note": (
        "degradation (deeper plain nets being worse, in training too) is not vanishing gradients. With batch norm the plain net's gradients do not vanish, they grow toward the input (see for yourself: ReLU, batch norm on, 56 layers), and the ResNet paper says so in §4.1. Nor does the “+1” guarantee flow: F′ may be negative, and the ReLU after the addition stops whatever it cuts.",
        "劣化問題（深いプレーンなネットワークほど学習精度まで悪くなること）の原因は勾配消失ではありません。バッチ正規化があれば、プレーンなネットワークの勾配は消えるどころか入力側ほど大きくなります（ReLU・バッチ正規化あり・56 層で試してください）。ResNet の論文 §4.1 も、原因は勾配消失ではなさそうだと述べています。「+1」があれば必ず流れるわけでもありません。F′ は負にもなりますし、加算後の ReLU が勾配を止めることもあります。",
    ),
    "lab_gradients_activation": ("Activation", "活性化関数"),
    "lab_gradients_activation_none": ("none (linear)", "なし（線形）"),
    "lab_gradients_batch_norm": ("Batch norm", "バッチ正規化"),
    "lab_gradients_says": (
        "First layer over last: {without_skip_ratio} in the plain net (×{without_skip_factor} a layer), {with_skip_ratio} in the residual one (×{with_skip_factor} a layer). "
        "Above 1 the gradient grows toward the input, far below 1 it vanishes.",
        "最初の層と最後の層の比は、プレーンで {without_skip_ratio}（1 層あたり ×{without_skip_factor}）、残差ありで {with_skip_ratio}（1 層あたり ×{with_skip_factor}）です。"
        "1 より大きければ入力側ほど大きく、1 よりずっと小さければ勾配消失です。",
    ),
    "lab_word_plus_one_axis": ("Gradient reaching each block's input", "各ブロックの入力に届く勾配ノルム"),
    "lab_word_block_axis": ("residual block, first to last", "残差ブロック（入力側から順に）"),
    "lab_word_through_shortcut": ("through the shortcut (“+1”)", "ショートカット経由（「+1」）"),
    "lab_word_through_branch": ("through F", "F 経由"),
    "lab_plus_one_says": (
        "In the residual net, the two parts add up at each block. In {against} of {blocks} blocks the part through F points against the “+1” and takes away from it.",
        "残差ありのネットワークでは、各ブロックでこの 2 つが足し合わされます。{blocks} ブロックのうち {against} では、F 経由の勾配が「+1」と逆を向き、その一部を打ち消しています。",
    ),
    # products
    "lab_products_title": ("Products", "掛け算の連鎖"),
    "lab_products_about": (
        "Backward, each layer multiplies the gradient by something. A little under 1 vanishes, a little over 1 explodes. Then compare with what the paper's own networks do.",
        "逆伝播では、層を通るたびに勾配へ何かが掛かります。1 より少し小さいだけで消え、少し大きいだけで爆発します。論文の実際のネットワークとも比べてみてください。",
    ),
    "lab_products_note": (
        "halving every ten layers leaves 0.5⁹ ≈ 0.002 after 90 layers, not 0.00001. And real layers are no constant factor: choose a network below.",
        "10 層ごとに半分なら、90 層後に残るのは 0.5⁹ ≈ 0.002 で、0.00001 ではありません。また、実際の層は一定の倍率にはなりません。下でネットワークを選んで確かめてください。",
    ),
    "lab_products_factor": ("Factor of each layer", "1 層あたりの倍率"),
    "lab_products_real": ("Real gradients of", "実際の勾配"),
    "lab_products_real_none": ("not now", "表示しない"),
    "lab_products_real_20": ("plain-20 and ResNet-20", "plain-20 と ResNet-20"),
    "lab_products_real_56": ("plain-56 and ResNet-56", "plain-56 と ResNet-56"),
    "lab_products_says": ("{factor} to the power of {layers} is {last}.", "1 に {factor} を {layers} 回掛けると {last} になります。"),
    "lab_real_says": (
        "Measured at initialisation on random pictures, first layer over last: plain {without_skip_ratio}, residual {with_skip_ratio}. At the first layer the plain net's gradient is {times} times the residual one's. Nothing vanishes here; what the plain net has trouble with is being optimised.",
        "初期化直後にランダムな画像で測った「最初の層 ÷ 最後の層」は、プレーンで {without_skip_ratio}、残差ありで {with_skip_ratio} です。最初の層の勾配は、プレーンが残差ありの {times} 倍です。勾配は消えていません。プレーンなネットワークで難しいのは、最適化そのものです。",
    ),
    # batch norm
    "lab_batchnorm_title": ("Batch norm along depth", "バッチ正規化と深さ"),
    "lab_batchnorm_about": (
        "Random pictures run through freshly initialised conv-ReLU layers. If the weights' scale is a little off, activations die out or explode with depth; batch norm brings their standard deviation back to 1 in each layer.",
        "初期化直後の conv-ReLU 層にランダムな画像を流します。重みのスケールが少しずれるだけで、深くなるほど活性値は消えるか爆発します。バッチ正規化は、標準偏差を層ごとに 1 へ戻します。",
    ),
    "lab_batchnorm_note": (
        "pictures are normalised by the standard deviation of all pixels. CIFAR-10's often-copied 0.2023, 0.1994, 0.2010 is the mean of the deviations within each picture; over all pixels it is 0.2470, 0.2435, 0.2616.",
        "入力画像の正規化には、全画素の標準偏差を使います。よく使われる CIFAR-10 の 0.2023・0.1994・0.2010 は、画像ごとの標準偏差を平均したものです。全画素の標準偏差は 0.2470・0.2435・0.2616 です。",
    ),
    "lab_batchnorm_gain": ("Scale of the weights, times He's", "重みのスケール（He 初期化の何倍か）"),
    "lab_batchnorm_says": (
        "After {depth} layers the standard deviation is {without_norm_last} without batch norm and {with_norm_last} with it.",
        "{depth} 層を通った後の標準偏差は、バッチ正規化なしで {without_norm_last}、ありで {with_norm_last} です。",
    ),
    # modes
    "lab_modes_title": ("Batch norm: train and eval", "バッチ正規化：学習と評価"),
    "lab_modes_about": (
        "In train mode a batch norm uses the mean and variance of the batch itself, and moves the ones it has stored a tenth of the way there. In eval mode it uses what it has stored.",
        "学習モードのバッチ正規化は、そのバッチ自身の平均と分散を使い、覚えている値（平均と分散の移動平均）を 1 割だけそちらへ近づけます。評価モードでは、覚えている値を使います。",
    ),
    "lab_modes_note": (
        "freezing the weights does not freeze this layer: under model.train() its stored statistics go on moving. In feature extraction, frozen layers must stay in eval mode.",
        "重みを凍結しても、この層は凍結されません。model.train() のままでは、覚えている統計量が動き続けます。特徴抽出では、凍結した層を評価モードにしておく必要があります。",
    ),
    "lab_modes_mean": ("Mean of what is fed in", "入力の平均"),
    "lab_modes_std": ("Its standard deviation", "入力の標準偏差"),
    "lab_modes_batches": ("Batches seen in train mode", "学習モードで見たバッチ数"),
    "lab_modes_says": (
        "After {batches} batches of 64 values. In eval mode the output is near mean 0 and deviation 1 only once the stored values have caught up.",
        "64 個の値からなるバッチを {batches} 回見た後の結果です。評価モードの出力が平均 0・標準偏差 1 に近づくのは、覚えている値が追いついてからです。",
    ),
    # bias
    "lab_bias_title": ("Conv, BN, ReLU: the needless bias", "Conv・BN・ReLU と不要なバイアス"),
    "lab_bias_about": (
        "Add a constant to a convolution's output and see how much of it reaches the end. Right after the convolution, batch norm subtracts each channel's mean, and the bias with it; that is why these convolutions have none.",
        "畳み込みの出力に定数を足し、それが最後まで届くかを見ます。畳み込みの直後にあるバッチ正規化は、チャンネルごとの平均を引くので、バイアスも一緒に消えます。だからこの畳み込みにはバイアスがありません。",
    ),
    "lab_bias_bias": ("Bias", "バイアス"),
    "lab_bias_says": (
        "Its gradient is {gradient_0} in the order conv-BN-ReLU (rounding: it would never learn) and {gradient_1} in conv-ReLU-BN.",
        "バイアスの勾配は、conv-BN-ReLU の順では {gradient_0}（丸め誤差のみ。学習されません）、conv-ReLU-BN の順では {gradient_1} です。",
    ),
    # dropout
    "lab_dropout_title": ("Dropout", "ドロップアウト"),
    "lab_dropout_about": (
        "While training, each activation is set to zero with probability p. In evaluation nothing happens at all.",
        "学習中は、各活性値を確率 p で 0 にします。評価時には何もしません。",
    ),
    "lab_dropout_note": (
        "the scaling happens while training (the survivors are divided by 1 − p), not at test time: this is “inverted” dropout, which PyTorch has. The 2014 paper did it the other way round.",
        "スケーリングは学習時に行われ（残った値を 1 − p で割る）、テスト時ではありません。PyTorch の実装は、この inverted dropout です。2014 年の論文では逆でした。",
    ),
    "lab_dropout_p": ("p, the probability of being zeroed", "p（0 にする確率）"),
    "lab_dropout_training": ("Train mode", "学習モード"),
    "lab_dropout_seed": ("Another draw", "乱数を変える"),
    "lab_dropout_says": (
        "{zeroed} of these 100 activations are zero, the others were multiplied by {scale}. Mean activation: {before} before, {after} after (over 200 draws).",
        "この 100 個の活性値のうち {zeroed} が 0 になり、残りは {scale} 倍されました。活性値の平均は、適用前 {before}、適用後 {after}（200 回の試行の平均）です。",
    ),
    # cost
    "lab_cost_title": ("Block cost", "ブロックのコスト"),
    "lab_cost_about": (
        "Two blocks with the same number of channels in and out. The bottleneck squeezes to a quarter before its 3×3. Drag the width.",
        "入出力のチャンネル数が同じ 2 種類のブロックを比べます。ボトルネックは 3×3 の前にチャンネルを 4 分の 1 に絞ります。幅を変えてみてください。",
    ),
    "lab_cost_note": (
        "a bottleneck saves 17 times at equal outer width, but a bottleneck network is not 17 times cheaper: it is four times as wide outside. See the numbers below the picture.",
        "同じ外側の幅なら 17 分の 1 になりますが、ボトルネックのネットワーク全体が 17 分の 1 になるわけではありません。外側の幅が 4 倍広いからです。図の下の数値を見てください。",
    ),
    "lab_cost_width": ("Channels in and out", "入出力のチャンネル数"),
    "lab_cost_says": (
        "At {width} channels the basic block has {ratio} times the weights; on a 14×14 map {macs_basic} against {macs_bottleneck} multiply-adds. "
        "Whole networks: ResNet-34 has {params34} parameters, ResNet-50 {params50}. Two 3×3 have 18 C² = {small} weights, one 5×5 has 25 C² = {large}.",
        "{width} チャンネルでは、基本ブロックの重みはボトルネックの {ratio} 倍です。14×14 のマップでの積和演算は {macs_basic} 対 {macs_bottleneck} です。"
        "ネットワーク全体では ResNet-34 が {params34}、ResNet-50 が {params50} パラメータです。3×3 を 2 層重ねると 18 C² = {small}、5×5 を 1 層なら 25 C² = {large} です。",
    ),
    # skips
    "lab_skips_title": ("Add or concatenate", "加算と連結"),
    "lab_skips_about": (
        "Three ways to carry an early map past later layers. Adding keeps the channels; concatenating keeps everything and grows.",
        "前の層のマップを後ろへ運ぶ 3 つの方法です。加算ではチャンネル数が変わらず、連結ではすべてを残す代わりに増えていきます。",
    ),
    "lab_skips_growth": ("DenseNet's growth k", "DenseNet の成長率 k"),
    "lab_skips_says": (
        "Adding stays at {channels} channels, concatenating reaches {grown}. All 3×3 layers together: {added} weights against {concatenated}. U-Net concatenates once a level: {unet} channels.",
        "加算では {channels} チャンネルのまま、連結では {grown} チャンネルになります。3×3 層の重みの合計は {added} 対 {concatenated} です。U-Net は段ごとに 1 回連結し、{unet} チャンネルになります。",
    ),
    # scaling
    "lab_scaling_title": ("Compound scaling", "複合スケーリング"),
    "lab_scaling_about": (
        "EfficientNet grows in depth, width and resolution together: 1.2<sup>φ</sup>, 1.1<sup>φ</sup> and 1.15<sup>φ</sup> (φ is the control). Cost grows with depth, but with the square of width and of resolution, so φ + 1 about doubles it.",
        "EfficientNet は深さ・幅・解像度を同時に大きくします（1.2<sup>φ</sup>、1.1<sup>φ</sup>、1.15<sup>φ</sup>。φ がつまみの値）。計算量は深さに比例し、幅と解像度についてはそれぞれの 2 乗に比例するため、φ を 1 増やすとおよそ 2 倍になります。",
    ),
    "lab_scaling_phi": ("φ, how far to scale", "φ（スケーリング係数）"),
    "lab_scaling_says": (
        "Together they cost ×{flops}. Spent on one alone, the same cost would buy depth ×{alone_depth}, width ×{alone_width} or resolution ×{alone_resolution}.",
        "合わせた計算量は ×{flops} です。同じ計算量を 1 つだけに使うと、深さなら ×{alone_depth}、幅なら ×{alone_width}、解像度なら ×{alone_resolution} になります。",
    ),
    # patches
    "lab_patches_title": ("Patches", "パッチ分割"),
    "lab_patches_about": (
        "A Vision Transformer has no sliding window: it cuts the picture into squares (patches), makes each a vector (a token) and lets every token look at every other (attention).",
        "Vision Transformer には窓をずらす畳み込みがありません。画像を正方形（パッチ）に切り分けてそれぞれをベクトル（トークン）にし、すべてのトークンの組で互いを参照します（注意機構、attention）。",
    ),
    "lab_patches_note": (
        "Resize((224, 224)) distorts the picture. Resize the short side and crop, as the Classify tab does.",
        "Resize((224, 224)) は画像の縦横比を崩します。短辺を合わせてから切り抜きます（「分類」タブもそうしています）。",
    ),
    "lab_patches_patch": ("Side of a patch", "パッチの一辺"),
    "lab_patches_says": (
        "{patches} patches of {numbers} numbers each; with the class token that is {tokens} tokens, and attention compares {attention} pairs in every head of every layer. Half the side of a patch gives about four times the tokens and sixteen times the pairs.",
        "{numbers} 個の数からなるパッチが {patches} 個、クラストークンを加えて {tokens} トークンです。注意（attention）は各層の各ヘッドで {attention} 組を比べます。パッチの一辺を半分にすると、トークンは約 4 倍、組は約 16 倍になります。",
    ),
    # timeline
    "lab_timeline_title": ("Timeline and guide", "年表と選び方"),
    "lab_timeline_about": (
        "From LeNet-5 to the Vision Transformer: what each network brought, and which to choose when. Parameters are computed where the network is part of this library.",
        "LeNet-5 から Vision Transformer まで、何をもたらし、どんなときに選ぶか。パラメータ数は、このライブラリにあるネットワークについて計算したものです。",
    ),
    "lab_timeline_note": (
        "the error rates often quoted for plain nets of 20 and 56 layers belong to no published experiment; the paper compares these two depths on CIFAR-10, with curves.",
        "20 層と 56 層のプレーンなネットワークの誤り率としてよく引用される数値には、対応する論文の実験がありません。論文がこの 2 つの深さを比べたのは CIFAR-10 で、学習曲線で示しています。",
    ),
    "lab_timeline_measure": ("Measure on this machine", "このコンピューターで推論時間を測る"),
    "lab_timeline_measure_none": ("nothing", "測らない"),
    "lab_timeline_lenet5": ("Convolution, pooling, then a classifier: the pattern of all that follow. For digits.", "畳み込み→プーリング→分類器という、その後すべての原型。手書き数字に。"),
    "lab_timeline_alexnet": ("ReLU, dropout and two GPUs: deep learning wins ImageNet. Today for history.", "ReLU・ドロップアウト・GPU 2 枚で ImageNet を制した。今は歴史として。"),
    "lab_timeline_vgg": ("Only 3×3 convolutions, deeper. Simple features, but heavy.", "3×3 畳み込みだけで深くした。単純だが重い。"),
    "lab_timeline_googlenet": ("Several windows side by side, and global average pooling: few parameters.", "複数サイズの畳み込みを並列に置き、グローバル平均プーリングを採用。パラメータが少ない。"),
    "lab_timeline_resnet": ("Shortcuts: 152 layers can be optimised. The usual first choice as a backbone.", "ショートカットにより 152 層でも最適化できる。バックボーンの定番。"),
    "lab_timeline_wrn": ("Wider instead of deeper. Strong on small pictures.", "深さより幅。小さな画像に強い。"),
    "lab_timeline_densenet": ("Concatenation instead of addition: reuses features, needs memory.", "加算の代わりに連結。特徴を再利用するが、メモリが要る。"),
    "lab_timeline_efficientnet": ("Depth, width and resolution scaled together. Where parameters or energy are scarce.", "深さ・幅・解像度を同時にスケール。パラメータや電力が限られるときに。"),
    "lab_timeline_vit": ("Attention over patches. With much data or strong pretraining.", "パッチへの注意機構。大量のデータか強力な事前学習があるときに。"),
    "lab_family_resnet18": ("a first try, small machines, few classes", "まず試すとき、小さなマシン、クラスが少ないとき"),
    "lab_family_resnet34": ("some more accuracy with plain blocks", "基本ブロックのまま精度を少し上げたいとき"),
    "lab_family_resnet50": ("the usual backbone; most pretrained weights", "標準的なバックボーン。学習済みの重みが最も豊富"),
    "lab_family_resnet101": ("detection and segmentation with time to spare", "時間に余裕のある物体検出・セグメンテーション"),
    "lab_family_resnet152": ("the last fraction of a percent", "最後のわずかな精度が欲しいとき"),
    # transfer adviser
    "lab_transfer_title": ("Transfer adviser", "転移学習アドバイザー"),
    "lab_transfer_about": (
        "How many pictures, how many classes, how like ImageNet? The rules are those of <code>python -m training.transfer</code>: its <code>--mode auto</code> goes by the number of pictures alone.",
        "画像の枚数、クラス数、ImageNet にどれだけ似ているか。ルールは <code>python -m training.transfer</code> と共通です（<code>--mode auto</code> は枚数だけで決めます）。",
    ),
    "lab_transfer_note": (
        "fine-tuning layer4 and fc of a ResNet-50 with two classes trains 14,968,834 parameters, not 7,083,010; and groups that leave out bn1 leave it untrained. Compute the loss per picture, not per batch, and never choose the best epoch by the test set.",
        "2 クラスの ResNet-50 で layer4 と fc を学習するとき、学習されるのは 7,083,010 ではなく 14,968,834 パラメータです。パラメータのグループ分けから bn1 が漏れると、bn1 は学習されません。損失の平均はバッチごとではなく画像ごとに取り、最良のエポックをテストセットで選んではいけません。",
    ),
    "lab_transfer_images": ("Training pictures in all", "学習画像の総数"),
    "lab_transfer_classes": ("Classes", "クラス数"),
    "lab_transfer_similar": ("Photographs of things, like ImageNet's", "ImageNet のような、物の写真である"),
    "lab_transfer_mode_feature": ("feature extraction (fc only)", "特徴抽出（fc のみ）"),
    "lab_transfer_mode_partial": ("partial fine-tuning (layer4 and fc)", "部分ファインチューニング（layer4 と fc）"),
    "lab_transfer_mode_full": ("full fine-tuning", "全層ファインチューニング"),
    "lab_transfer_why_feature": (
        "With so few pictures more parameters would learn them by heart.",
        "この枚数では、学習するパラメータを増やすと画像を丸暗記してしまいます。",
    ),
    "lab_transfer_why_partial": (
        "Enough to adapt the last stage, which is the most specific, but not every layer; unlike pictures need one step more than their number says.",
        "この枚数なら、最もタスクに特化した最後のステージは調整できますが、全層を学習するには足りません。ImageNet と似ていない画像では、枚数から決まる方法より 1 段階広い範囲の層を学習します。",
    ),
    "lab_transfer_why_full": (
        "So many pictures, or unlike ones in number, can teach every layer; the early ones learn slowest, because edges and colours stay what they are.",
        "これだけの枚数（または似ていない画像がある程度の枚数）があれば全層を学習できます。エッジや色を見る前半の層は、ほぼそのまま使えるので学習率を小さくします。",
    ),
    "lab_transfer_says": ("<b>{mode}</b>: {trainable} of {total} parameters learn ({share}).", "<b>{mode}</b>：{total} パラメータのうち {trainable} 個（{share}）を学習します。"),
    # exercises
    "lab_exercises_title": ("Exercises", "演習"),
    "lab_exercises_about": (
        "The course's ten exercises with this app's own controls. Think first, try it in the lab, then look: the answers are computed when you ask.",
        "講座の 10 題の演習を、このアプリを使って解きます。まず考え、実験室で試し、それから答えを見てください。答えは表示するときに計算されます。",
    ),
    "lab_exercises_number": ("Exercise", "問題"),
    "lab_exercises_answer": ("Show the answer", "答えを表示"),
    "exercise_try": ("Try it in the lab", "実験室で試す"),
    "exercise_answer": ("Answer", "答え"),
    "exercise_1_task": (
        "Why can a residual net be made deeper without getting worse at once? Set the branch to 0 and compare the block with its plain twin.",
        "残差ネットワークは、なぜ層を増やしてもすぐには悪くならないのでしょうか。F(x) の強さを 0 にして、プレーンなブロックと比べてください。",
    ),
    "exercise_1_answer": (
        "With the branch at zero, output and input differ by {difference} with the shortcut and by {plain} without: F(x) = 0 is enough to be the identity, so more layers can start by doing nothing. That makes a good solution easier to reach; it guarantees none, and with negative inputs the ReLU still changes up to {negative}.",
        "F(x) を 0 にすると、出力と入力の差はショートカットありで {difference}、なしで {plain} です。F(x) = 0 だけで恒等写像になるので、追加した層は「何もしない」ところから始められます。よい解に届きやすくなるだけで保証ではなく、負の入力では ReLU によって最大 {negative} 変わります。",
    ),
    "exercise_2_task": (
        "How many weights do a basic block and a bottleneck have at 256 channels, and how many times cheaper is the bottleneck?",
        "256 チャンネルの基本ブロックとボトルネックの重みはそれぞれいくつで、ボトルネックは何分の 1 になりますか。",
    ),
    "exercise_2_answer": (
        "{basic} against {bottleneck}: {ratio} times. Layer by layer: {basic_layers} and {bottleneck_layers}. Whole networks: ResNet-34 {params34}, ResNet-50 {params50}.",
        "{basic} 対 {bottleneck} で、{ratio} 倍の差です。層ごとには {basic_layers} と {bottleneck_layers}。ただしネットワーク全体では ResNet-34 が {params34}、ResNet-50 が {params50} です。",
    ),
    "exercise_3_task": (
        "Which way of transfer suits 500 medical pictures, 10,000 cats of 50 breeds, 50,000 product photos?",
        "医療画像 500 枚、50 品種の猫 10,000 枚、商品写真 50,000 枚には、それぞれどの転移学習が向いていますか。",
    ),
    "exercise_3_answer": (
        "By number: 500 → {few} ({few_params} parameters learn); 10,000 → {some} ({some_params}); 50,000 → {many} ({many_params}). Medical pictures are unlike ImageNet's, so compare one step further: {unlike}.",
        "枚数だけで決めると、500 枚 → {few}（学習するパラメータ {few_params}）、10,000 枚 → {some}（{some_params}）、50,000 枚 → {many}（{many_params}）です。医療画像は ImageNet と似ていないので、1 段階進めた {unlike} とも比べてください。",
    ),
    "exercise_4_task": (
        "A basic block takes (N, 64, 56, 56) to 128 channels with stride 2. What shape comes out, and what must the shortcut do?",
        "基本ブロックがストライド 2 で (N, 64, 56, 56) を 128 チャンネルにします。出力の形は何で、ショートカットには何が必要ですか。",
    ),
    "exercise_4_answer": (
        "{out}. The shortcut needs a {window} convolution with stride 2 ({shortcut} weights) and a batch norm; the block has {params} parameters.",
        "{out} です。ショートカットには、ストライド 2 の {window} 畳み込み（重み {shortcut} 個）とバッチ正規化が必要です。ブロック全体のパラメータは {params} 個です。",
    ),
    "exercise_5_task": (
        "Training accuracy 98 %, validation 75 %: name five remedies, and how to apply them here.",
        "学習精度 98 %、検証精度 75 % です。対策を 5 つ挙げ、このプロジェクトでの使い方を答えてください。",
    ),
    "exercise_5_answer": (
        "<br>1. Fewer trainable parameters: --mode feature trains {feature} instead of {full}.<br>2. Dropout before fc, --drop-rate 0.5: {zeroed} of the activations were zero in one draw of the lab. "
        "<br>3. Stronger augmentation: --augment resized_crop,flip,trivial.<br>4. Weight decay: --weight-decay.<br>5. Lower rates: full fine-tuning gives the stem {slow} times the head's.<br>Also: stop early (the best epoch by held-out accuracy is kept).<br>{study}",
        "<br>1. 学習するパラメータを減らす：--mode feature なら {full} ではなく {feature} 個。<br>2. fc の前のドロップアウト（--drop-rate 0.5）：実験室での 1 回の試行では {zeroed} が 0。"
        "<br>3. データ拡張を強める：--augment resized_crop,flip,trivial。<br>4. 重み減衰：--weight-decay。<br>5. 学習率を下げる：全層ファインチューニングではステムの学習率は fc の {slow} 倍。<br>ほかに早期終了（検証精度が最良のエポックを保存）。<br>{study}",
    ),
    "exercise_gap": (
        "Measured, training minus test accuracy in points: {gaps}. Training accuracy is measured on the changed pictures with dropout at work, so a smaller gap is partly harder training, not only less learnt by heart: look at the test accuracy too.",
        "実測した差（学習精度 − テスト精度、ポイント）：{gaps}。学習精度は、データ拡張された画像とドロップアウトのもとで測ります。差が小さいのは丸暗記が減ったためだけでなく、学習が難しくなったためでもあるので、テスト精度も合わせて見てください。",
    ),
    "exercise_6_task": (
        "Pool the map of a vertical edge 2×2 with stride 2: maximum and average. Which keeps the edge, and what happens when it moves by one pixel?",
        "縦のエッジの特徴マップを 2×2・ストライド 2 でプーリングします。最大と平均では、どちらがエッジを残しますか。1 画素ずらすとどうなりますか。",
    ),
    "exercise_6_answer": (
        "A row becomes {max} (maximum) and {average} (average): the maximum keeps the edge's strength, the average halves it. {dropped} of the values decide no maximum. Moved by one pixel, {changed} of the maxima change.",
        "1 行は、最大では {max}、平均では {average} になります。最大はエッジの強さを保ち、平均は半分にします。値の {dropped} は最大値に選ばれません。1 画素ずらすと最大値の {changed} が変わります。",
    ),
    "exercise_7_task": (
        "Compare the gradients of a 56-layer net with and without shortcuts, with batch norm and with sigmoid without it. Where do they vanish?",
        "56 層のネットワークで、ショートカットの有無による勾配の違いを比べてください（バッチ正規化あり、およびシグモイドでバッチ正規化なし）。勾配はどこで消えますか。",
    ),
    "exercise_7_answer": (
        "ReLU with batch norm, first layer over last: plain {plain}, residual {residual}. Nothing vanishes; the plain net's gradients grow toward the input. Sigmoid without batch norm: plain {sigmoid}: there they vanish.",
        "ReLU とバッチ正規化では、最初の層と最後の層の比はプレーンで {plain}、残差ありで {residual} です。消えてはおらず、プレーンでは入力側ほど大きくなります。シグモイドでバッチ正規化なしのプレーンでは {sigmoid} で、ここでは消えています。",
    ),
    "exercise_8_task": (
        "What does batch norm do to activations after 20 layers when the weights are 0.7 times He's?",
        "重みが He 初期化の 0.7 倍のとき、20 層後の活性値に対してバッチ正規化は何をしますか。",
    ),
    "exercise_8_answer": (
        "Without it the standard deviation falls from {first} to {without}; with it it stays at {with_norm}. A bias of 3 in the convolution before it changes the output by {bias} (rounding).",
        "なしでは、標準偏差が {first} から {without} まで小さくなり、ありでは {with_norm} のままです。直前の畳み込みにバイアス 3 を足しても、出力の変化は {bias}（丸め誤差）だけです。",
    ),
    "exercise_9_task": (
        "Sweep dropout over p = 0, 0.3, 0.5, 0.7. What becomes of the activations, and of the gap between training and test?",
        "p = 0、0.3、0.5、0.7 のドロップアウトを比べてください。活性値と、学習・テスト精度の差はどうなりますか。",
    ),
    "exercise_9_answer": (
        "{sweep}. The mean stays, because the survivors are scaled while training. {study}",
        "{sweep}。残った値が学習中に拡大されるので、平均は変わりません。{study}",
    ),
    "exercise_9_one": ("p = {p}: {zeroed} zero, the rest ×{scale}", "p = {p}：{zeroed} が 0、残りは {scale} 倍"),
    "exercise_10_one": (
        "{name}: {params} parameters, {macs} multiply-adds",
        "{name}：パラメータ数 {params}、積和演算 {macs}",
    ),
    "exercise_10_task": (
        "LeNet-5, a VGG-style and a ResNet-style net on 32×32 colour pictures: compare their parameters, cost and accuracy.",
        "32×32 のカラー画像で、LeNet-5・VGG 系・ResNet 系を、パラメータ数・計算量・精度で比べてください。",
    ),
    "exercise_10_answer": ("{sizes}. {study}", "{sizes}。{study}"),
    "exercise_accuracy": ("Measured test accuracy: {rows}.", "実測したテスト精度：{rows}。"),
    "exercise_no_study": (
        "(The study “{name}” has not been run here: python -m training.study {name} --data DIR.)",
        "（実験「{name}」はまだ行われていません：python -m training.study {name} --data DIR）",
    ),
    # results
    "tab_results": ("Results", "測定結果"),
    "results_intro": (
        "What was measured, and on what it rests. Every table names its command, data, number of seeds and hardware, and its numbers can be downloaded.",
        "実測した結果と、その根拠です。どの表にもコマンド・データ・シード数・ハードウェアを記し、数値をダウンロードできます。",
    ),
    "results_none": (
        "No study has been recorded here yet. Run one: python -m training.study degradation --data cifar10 --seeds 3",
        "記録された実験はまだありません。実行するには：python -m training.study degradation --data cifar10 --seeds 3",
    ),
    "results_missing": ("Not run here: {names}.", "未実行：{names}"),
    "results_broken": ("{name}.json cannot be read; run the study again.", "{name}.json を読み込めません。もう一度実行してください。"),
    "results_evidence": (
        "{images} training pictures of {data}, {epochs} epochs, n = {seeds} seeds; test on {test}; {hardware}, torch {torch}; {hours} hours in all.",
        "データ：{data}、学習画像 {images} 枚、{epochs} エポック、シード数 n = {seeds}、テスト画像 {test} 枚。{hardware}、torch {torch}。合計 {hours} 時間。",
    ),
    "results_one_seed": ("One seed only: a difference here may be chance.", "シードは 1 つだけです。差は偶然かもしれません。"),
    "results_arm": ("compared", "条件"),
    "results_params": ("parameters", "パラメータ数"),
    "results_train": ("training, %", "学習 %"),
    "results_val": ("held out, %", "検証 %"),
    "results_test": ("test, %", "テスト %"),
    "results_flip": ("test + flip, %", "テスト＋反転 %"),
    "results_spread": ("test, from–to", "テスト 範囲 %"),
    "results_gap": ("training − test", "学習−テスト"),
    "results_seconds": ("s, fastest epoch", "最速エポックの秒数"),
    "results_best": ("best epochs", "最良エポック"),
    "results_curve_train": ("Training accuracy in %, augmented pictures", "学習精度 %（データ拡張あり）"),
    "results_curve_val": ("Held-out accuracy in %", "検証精度 %"),
    "results_epoch": ("epoch", "エポック"),
    "results_caption": (
        "Mean over seeds; shaded, and “from–to”, the least and the most. Test + flip: averaged with the answer for the mirror image. Training − test in percentage points: training accuracy is of the last epoch, on pictures changed by augmentation and with dropout at work, so the difference shows how hard training was made as well as what was learnt by heart.",
        "シードの平均。帯と「範囲」は最小〜最大。テスト＋反転：左右反転した画像の答えと平均した場合。学習−テストはポイント差。学習精度は最後のエポックのもので、データ拡張された画像とドロップアウトのもとで測るため、この差には丸暗記の度合いだけでなく、学習をどれだけ難しくしたかも表れます。",
    ),
    "results_json": ("Numbers, JSON", "数値 JSON"),
    "results_csv": ("Table, CSV", "表 CSV"),
    "study_degradation": (
        "{question}",
        "ショートカットの有無で、深さは役に立つのか。学習精度も見ます。深いプレーンなネットワークは学習データでも悪くなるので、過学習ではありません。これほど短い学習では ResNet-56 も ResNet-20 に届きませんが、64,000 ステップ学習した論文（arXiv 1512.03385）では、テスト誤り率が ResNet-56 で 6.97 %、ResNet-20 で 8.75 % と、深いほうが良くなります。",
    ),
    "study_stem": ("{question}", "32×32 の画像に ImageNet 用のステム（7×7・ストライド 2 とプーリング）を使うと、どれだけ損をするか。"),
    "study_optimizers": ("{question}", "SGD（モメンタム）・Adam・AdamW・Muon のうち、標準的な学習率で最も速く学習するのはどれか。"),
    "study_augmentation": ("{question}", "切り抜きと左右反転の効果は。TrivialAugment はさらに効くか。これほど短い学習では防ぐべき過学習がほとんどないため、画像を変えるほど精度は下がります。"),
    "study_dropout": ("{question}", "分類器の前のドロップアウトは、学習精度とテスト精度をどう変えるか。これほど小さいネットワークを短く学習しても丸暗記は起こらないため、ドロップアウトが防ぐものはなく、精度が下がります。学習精度はドロップアウトが働いた状態で測ったものです。"),
    "study_architectures": ("{question}", "LeNet-5・VGG 系・ResNet 系のネットワークを同じ画像で比べます。"),
    "study_transfer": ("{question}", "画像が少ないときと多いときで、特徴抽出・部分・全層ファインチューニングのどれがよいか。CIFAR-10 で学習した元のネットワークは 32×32 の 10 クラスしか見ておらず、昆虫は含まれないので、高い精度は期待できません。テスト画像は 153 枚なので、8 ポイントの差は偶然でも起こります。"),
    "study_ingredients": ("{question}", "レシピ fast の各要素はどれだけ効いているか。要素を 1 つずつ外した場合と、白色化フィルターを加えた場合を比べます。これほど短い学習では、約 100 ステップ分を平均した重みはまだ追いつきません。"),
    "study_batchnorm": ("{question}", "バッチ正規化があると、同じネットワークの収束はどれだけ速くなるか。また、より高い学習率に耐えられるか（もとの LeNet-5 にはバッチ正規化がありません）。"),
    "study_tta": ("{question}", "画像とその左右反転の答えを平均すると、反転画像を見て学習したネットワークと、見ていないネットワークで、それぞれどれだけ良くなるか。"),
    "study_distillation": ("{question}", "画像が少ないとき、より良いネットワークの答えから学ぶ蒸留（<code>--teacher</code>）はどれだけ効くか。教師は、これらを含む 45,000 枚で学習しています。"),
    "title_degradation": ("Degradation", "劣化問題"),
    "title_stem": ("Stem at 32×32", "32×32 でのステム"),
    "title_architectures": ("Architectures", "アーキテクチャ"),
    "title_optimizers": ("Optimizers", "最適化手法"),
    "title_batchnorm": ("Batch norm", "バッチ正規化"),
    "title_dropout": ("Dropout", "ドロップアウト"),
    "title_augmentation": ("Augmentation", "データ拡張"),
    "title_transfer": ("Fine-tuning", "転移学習"),
    "title_tta": ("Test-time augmentation", "テスト時のデータ拡張（TTA）"),
    "title_distillation": ("Distillation", "蒸留"),
    "title_ingredients": ("Ingredients of the recipe", "レシピの要素"),
    "data_hymenoptera (ants and bees)": ("hymenoptera (ants and bees)", "hymenoptera（アリとハチ）"),
    "data_CIFAR-10 re-encoded as JPEG": ("CIFAR-10 re-encoded as JPEG", "CIFAR-10（JPEG で保存し直したもの）"),
    "arm_CIFAR stem": ("CIFAR stem", "CIFAR 用ステム"),
    "arm_ImageNet stem": ("ImageNet stem", "ImageNet 用ステム"),
    "arm_without Muon": ("without Muon", "Muon なし"),
    "arm_without small pictures": ("without small pictures", "縮小画像なし"),
    "arm_without averaging": ("without averaging", "重みの平均なし"),
    "arm_with whitening": ("with whitening", "白色化あり"),
    "arm_without smoothing": ("without smoothing", "ラベル平滑化なし"),
    "arm_without flips": ("without flips", "左右反転なし"),
    "arm_labels alone": ("labels alone", "ラベルのみ"),
    "arm_labels and teacher": ("labels and teacher", "ラベルと教師"),
    "arm_none": ("none", "なし"),
    "arm_crop and flip": ("crop and flip", "切り抜きと左右反転"),
    "arm_without, rate 0.05": ("without, rate 0.05", "BN なし、学習率 0.05"),
    "arm_with, rate 0.05": ("with, rate 0.05", "BN あり、学習率 0.05"),
    "arm_without, rate 0.5": ("without, rate 0.5", "BN なし、学習率 0.5"),
    "arm_with, rate 0.5": ("with, rate 0.5", "BN あり、学習率 0.5"),
    "arm_trained with flips": ("trained with flips", "左右反転ありで学習"),
    "arm_trained without": ("trained without", "左右反転なしで学習"),
    "arm_feature, 40 pictures": ("feature, 40 pictures", "特徴抽出、40 枚"),
    "arm_partial, 40 pictures": ("partial, 40 pictures", "部分、40 枚"),
    "arm_full, 40 pictures": ("full, 40 pictures", "全層、40 枚"),
    "arm_feature, 200 pictures": ("feature, 200 pictures", "特徴抽出、200 枚"),
    "arm_partial, 200 pictures": ("partial, 200 pictures", "部分、200 枚"),
    "arm_full, 200 pictures": ("full, 200 pictures", "全層、200 枚"),
    # prediction grid
    "grid_title": ("Predictions on your own pictures", "自分の画像での予測"),
    "grid_about": (
        "Give a zip (up to 30 MB) or a folder with one folder a class (cat/1.jpg, dog/7.png, …). Up to {files} pictures, {megabytes} MB unpacked; wrong predictions come first, framed.",
        "クラスごとのフォルダー（cat/1.jpg、dog/7.png など）を含む zip（30 MB まで）またはフォルダーを渡してください。最大 {files} 枚・展開後 {megabytes} MB。間違った予測は枠つきで先頭に並びます。",
    ),
    "grid_zip": ("Zip file", "zip ファイル"),
    "grid_folder": ("Folder", "フォルダー"),
    "grid_model": ("Model", "モデル"),
    "grid_run": ("Predict", "予測する"),
    "grid_waiting": ("The grid appears here.", "結果はここに表示されます。"),
    "grid_uploading": ("Uploading…", "アップロード中…"),
    "grid_nothing": ("Choose a zip or a folder first.", "先に zip またはフォルダーを選んでください。"),
    "grid_says": (
        "{right} of {total} right ({share}). Model {model}.",
        "{total} 枚中 {right} 枚が正解（{share}）。モデル：{model}。",
    ),
    "grid_unknown": (
        "The model does not know: {classes}. Whatever such a picture shows, its prediction counts as wrong.",
        "モデルが知らないクラス：{classes}。これらの画像の予測は必ず不正解として数えます。",
    ),
    "grid_first": ("The first {shown} are shown.", "先頭の {shown} 枚を表示しています。"),
    "grid_wrong": ("✗ {predicted}, not {true}", "✗ {predicted}（正解は {true}）"),
    "grid_right": ("✓ {predicted}", "✓ {predicted}"),
    "grid_skipped": ("{count} files left out: {why}.", "除外したファイル {count} 個：{why}"),
    "grid_bad_zip": ("This is not a zip file that can be read. Zip the folder again.", "読み取れる zip ファイルではありません。もう一度圧縮してください。"),
    "grid_too_many": ("{seen} files; at most {most} are read. Give fewer.", "ファイルが {seen} 個あります。最大 {most} 個です。減らしてください。"),
    "grid_too_large": ("Unpacked it has more than {most} MB. Give fewer or smaller pictures.", "展開すると {most} MB を超えます。枚数を減らすか、小さくしてください。"),
    "grid_unsafe": ("“{name}” leads out of the archive. Zip the class folders themselves.", "「{name}」は圧縮ファイルの外を指しています。クラスのフォルダーを圧縮し直してください。"),
    "grid_no_classes": (
        "No picture lies in a class folder. Put each in a folder named after its class: cat/1.jpg.",
        "クラスのフォルダーに入った画像がありません。cat/1.jpg のように、クラス名のフォルダーに入れてください。",
    ),
    # operations
    "tab_operations": ("Operations", "運用"),
    "operations_about": (
        "Since {since}: what Classify did, by model and revision. Percentiles are of the last {kept} answers of each.",
        "{since} からの「分類」の記録（モデルとリビジョンごと）。パーセンタイルは、それぞれ直近 {kept} 件の値です。",
    ),
    "operations_none": ("Nothing was classified yet.", "まだ分類は行われていません。"),
    "operations_refresh": ("Refresh", "更新"),
    "operations_model": ("model, revision", "モデル・リビジョン"),
    "operations_requests": ("requests", "件数"),
    "operations_rate": ("a minute", "毎分"),
    "operations_p50": ("p50 ms", "p50 ミリ秒"),
    "operations_p95": ("p95 ms", "p95 ミリ秒"),
    "operations_p99": ("p99 ms", "p99 ミリ秒"),
    "operations_errors": ("errors", "エラー"),
    "operations_flagged": ("flagged", "見慣れない画像"),
}  # fmt: skip

/** Every sentence of the page. */

/** @typedef {"en" | "ja"} Language */

/** @type {readonly Language[]} */
export const LANGUAGES = ["en", "ja"];

/** @type {Record<string, string[]>} one sentence a language, in their order */
export const TEXT = {
  privacy: [
    "Everything is computed on this device. Photos never leave it.",
    "計算はすべてこの端末で行います。写真が外に送られることはありません。",
  ],
  choose: ["Choose photos", "写真を選ぶ"],
  drop: ["or drop them here, or paste one", "ここへのドロップや貼り付けもできます"],
  camera_start: ["Live camera", "カメラで連続判定"],
  camera_stop: ["Stop the camera", "カメラを止める"],
  map: ["Show which area supports the answer", "判断の根拠になった場所を表示"],
  photo: ["Photo", "写真"],
  file_name: ["File", "ファイル"],
  best: ["Answer", "答え"],
  share: ["Probability", "確率"],
  known: ["Familiar", "既知"],
  yes: ["yes", "はい"],
  no: ["no", "いいえ"],
  not_measured: ["not measured", "未測定"],
  seen: ["Network input: {width}×{height} pixels", "ネットワークに入力された画像：{width}×{height} 画素"],
  loading: ["Loading the network …", "モデルを読み込んでいます…"],
  ready: ["Ready.", "準備完了。"],
  offline: ["Ready. It also works offline from now on.", "準備完了。今後はオフラインでも使えます。"],
  computing: ["Computing …", "計算中…"],
  answered: ["{count} photos answered.", "{count} 枚の写真を判定しました。"],
  from_camera: ["Camera", "カメラ"],
  details: ["Inference time: {milliseconds} ms", "推論時間：{milliseconds} ミリ秒"],
  rate: ["{rate} answers per second", "毎秒 {rate} 回判定"],
  about: [
    "Model: {made_from}, revision {revision}. Licence of the weights: {licence}.",
    "モデル：{made_from}（リビジョン {revision}）。重みのライセンス：{licence}。",
  ],
  on_the_hub: ["The model on the Hub", "Hub のモデル"],
  decoders: [
    "Answers match those of the Python version. They may differ slightly where the browser decodes a photo differently (CMYK, 16 bits per channel, colour profiles).",
    "答えは Python 版と一致します。ただし CMYK、16 ビット画像、カラープロファイル付きの画像では、ブラウザのデコードの違いにより多少異なることがあります。",
  ],
  not_an_image: [
    "“{name}” is not an image that this browser can read. Choose a JPEG, PNG or WebP photo.",
    "「{name}」はこのブラウザで読める画像ではありません。JPEG、PNG、WebP の写真を選んでください。",
  ],
  no_wasm: [
    "This browser cannot run WebAssembly. Use a current Chrome, Edge, Firefox or Safari.",
    "このブラウザでは WebAssembly が使えません。最新の Chrome、Edge、Firefox、Safari を使ってください。",
  ],
  too_large: [
    "Not enough memory on this device. Close other tabs, or try a smaller photo.",
    "この端末のメモリが足りません。ほかのタブを閉じるか、小さい写真で試してください。",
  ],
  no_model: [
    "The network could not be downloaded. Check the connection and reload the page.",
    "モデルをダウンロードできませんでした。接続を確認して、ページを再読み込みしてください。",
  ],
  damaged: [
    "The model file is damaged. Reload the page; if that does not help, its owner has to upload it again.",
    "モデルのファイルが壊れています。ページを再読み込みしてください。直らない場合は、公開者による再アップロードが必要です。",
  ],
  no_session: [
    "The network could not be started in this browser. Reload the page, or try another browser.",
    "このブラウザではモデルを起動できませんでした。再読み込みするか、別のブラウザで試してください。",
  ],
  no_camera: [
    "There is no camera that this page can use. Choose a photo instead.",
    "使えるカメラが見つかりません。代わりに写真を選んでください。",
  ],
  camera_denied: [
    "The browser did not allow the camera. Allow it for this page, then try again.",
    "カメラの使用が許可されていません。このページに許可してから、もう一度試してください。",
  ],
};

/**
 * @param {string} text with {placeholders}
 * @param {Record<string, string | number>} values
 * @returns {string}
 */
export function filled(text, values) {
  return text.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}

/**
 * @param {string} key of `TEXT`
 * @param {Language} language
 * @param {Record<string, string | number>} values
 * @returns {string}
 */
export function say(key, language, values = {}) {
  return filled(TEXT[key][LANGUAGES.indexOf(language)], values);
}

/**
 * What PaliGemma's processor writes: all pictures with what stands before them, `<bos>` behind the last one, the question, a
 * newline. A system message stands before the question. Its folders hold no template.
 * Source: `processing_paligemma.py` of huggingface/transformers 5.23.
 */
export const paliGemmaTemplate =
  "{%- set seen = namespace(left=0, asked=0) %}" +
  "{%- for message in messages %}{%- if message['role'] == 'user' %}{%- set seen.asked = seen.asked + 1 %}{%- endif %}" +
  "{%- if message['content'] is not string %}{%- for part in message['content'] %}" +
  "{%- if part['type'] == 'image' %}{%- set seen.left = seen.left + 1 %}{%- endif %}{%- endfor %}{%- endif %}{%- endfor %}" +
  "{%- if seen.asked != 1 %}{{- raise_exception('PaliGemma takes one question') }}{%- endif %}" +
  "{%- if seen.left == 0 %}{{- bos_token }}{%- endif %}" +
  "{%- for message in messages %}{%- if message['content'] is string %}{{- message['content'] }}{%- else %}" +
  "{%- for part in message['content'] %}{%- if part['type'] == 'image' %}{{- '<image>' }}{%- set seen.left = seen.left - 1 %}" +
  "{%- if seen.left == 0 %}{{- bos_token }}{%- endif %}{%- else %}{{- part['text'] }}{%- endif %}{%- endfor %}{%- endif %}" +
  "{%- if message['role'] == 'system' %}{{- '\\n' }}{%- endif %}{%- endfor %}{{- '\\n' }}";

/**
 * What the code of NVILA folders writes: ChatML with a system message of its own where the conversation has none; texts without
 * white space around them; and a line of its own for a picture that is alone in its conversation, the tiles of which come before
 * that line's end (see `tilePlaces`). Their tokenizer's template knows no pictures.
 * Source: `qwen2.jinja`, `tokenize_conversation` and `generate_content` of NVlabs/VILA.
 */
export const nvilaTemplate =
  "{%- set seen = namespace(count=0) %}" +
  "{%- for message in messages %}{%- if message['content'] is not string %}{%- for part in message['content'] %}" +
  "{%- if part['type'] == 'image' %}{%- set seen.count = seen.count + 1 %}{%- endif %}{%- endfor %}{%- endif %}{%- endfor %}" +
  "{%- if messages[0]['role'] != 'system' %}{{- '<|im_start|>system\\nYou are a helpful assistant<|im_end|>\\n' }}{%- endif %}" +
  "{%- for message in messages %}{%- set written = namespace(text='') %}" +
  "{%- if message['content'] is string %}{%- set written.text = message['content'] %}{%- else %}{%- for part in message['content'] %}" +
  "{%- if part['type'] == 'image' %}{%- set written.text = written.text + ('<image>\\n' if seen.count == 1 else '<image>') %}" +
  "{%- else %}{%- set written.text = written.text + part['text'] %}{%- endif %}{%- endfor %}{%- endif %}" +
  "{{- '<|im_start|>' + message['role'] + '\\n' + written.text.strip() + '<|im_end|>\\n' }}{%- endfor %}" +
  "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}";

/**
 * What the code of `internvl_chat` folders writes (template `internvl2_5`): ChatML with a system message of its own where the
 * conversation has none, and a line of its own for each picture. Their tokenizer's template knows no pictures.
 * Source: `conversation.py` and `modeling_internvl_chat.py` of the InternVL repository.
 */
export const remoteChatTemplate =
  "{%- if messages[0]['role'] != 'system' %}{{- '<|im_start|>system\\n你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。<|im_end|>\\n' }}{%- endif %}" +
  "{%- for message in messages %}{{- '<|im_start|>' + message['role'] + '\\n' }}" +
  "{%- if message['content'] is string %}{{- message['content'] }}{%- else %}{%- for part in message['content'] %}" +
  "{%- if part['type'] == 'image' %}{{- '<IMG_CONTEXT>\\n' }}{%- else %}{{- part['text'] }}{%- endif %}{%- endfor %}{%- endif %}" +
  "{{- '<|im_end|>\\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}";

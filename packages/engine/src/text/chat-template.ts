import { Template } from "@huggingface/jinja";
import { InvalidError, messageOf } from "@drydock/kit";

export type ChatPart = { readonly type: "text"; readonly text: string } | { readonly type: "image" };

/** One turn as chat templates take it. */
export interface ChatMessage {
  readonly role: "system" | "user" | "assistant";
  readonly content: readonly ChatPart[];
}

/** A text that no template writes by itself. */
const probe = "\u2713drydock\u2713";

/** A model's own chat template, rendered as written by its makers. */
export class ChatTemplate {
  readonly #template: Template;
  readonly #tokens: Readonly<Record<string, string>>;
  /** Whether turns without pictures may be plain strings, and whether system messages may. */
  readonly #takesStrings: { readonly turns: boolean; readonly system: boolean };

  /**
   * @param tokens  the tokenizer's own ones that templates may name: `bos_token`, `eos_token`
   * @throws InvalidError when the template cannot be parsed
   */
  constructor(source: string, tokens: Readonly<Record<string, string>> = {}) {
    this.#tokens = tokens;
    try {
      this.#template = new Template(source);
    } catch (error) {
      throw new InvalidError("bad_chat_template", `the chat template cannot be parsed: ${messageOf(error)}`, {
        cause: error,
      });
    }
    const turns = this.#takesString((content) => [{ role: "user", content }]);
    const asked = { role: "user", content: turns ? "?" : [{ type: "text", text: "?" } as const] };
    this.#takesStrings = { turns, system: this.#takesString((content) => [{ role: "system", content }, asked]) };
  }

  /** The conversation as text; with `addGenerationPrompt` it ends where the model's answer begins. */
  render(messages: readonly ChatMessage[], addGenerationPrompt: boolean): string {
    try {
      return this.#template.render({
        ...this.#tokens,
        messages: messages.map((message) =>
          this.#takesStrings[message.role === "system" ? "system" : "turns"] ? plain(message) : message,
        ),
        add_generation_prompt: addGenerationPrompt,
        add_vision_id: false,
        enable_thinking: false,
      });
    } catch (error) {
      throw new InvalidError("bad_chat_template", `the chat template refuses this conversation: ${messageOf(error)}`, {
        cause: error,
      });
    }
  }

  /** Whether the text of a message is written when it is a plain string, or else not even as parts. */
  #takesString(conversation: (content: Content) => readonly Turn[]): boolean {
    return this.#shows(conversation(probe)) || !this.#shows(conversation([{ type: "text", text: probe }]));
  }

  /** Whether the probe is in what the template writes. */
  #shows(messages: readonly Turn[]): boolean {
    try {
      return this.#template.render({ ...this.#tokens, messages, add_generation_prompt: true }).includes(probe);
    } catch {
      // A template that refuses so short a conversation refuses both forms, and gets strings.
      return false;
    }
  }
}

type Content = string | readonly ChatPart[];

/** A turn as templates take it. */
interface Turn {
  readonly role: string;
  readonly content: Content;
}

/** Turns without pictures as plain strings: some templates take only those, some (LLaVA's) none, some (Llama 3's) for system alone. */
function plain({ role, content }: ChatMessage): Turn {
  const isText = content.every((part) => part.type === "text");
  return { role, content: isText ? content.map((part) => (part.type === "text" ? part.text : "")).join("") : content };
}

/**
 * Splits `content` with `<image>` marks into parts.
 *
 * @returns parts in order, one image part a mark
 */
export function partsOf(content: string): ChatPart[] {
  const parts: ChatPart[] = [];
  content.split("<image>").forEach((text, index) => {
    if (index > 0) parts.push({ type: "image" });
    // The newline after a mark belongs to the mark's convention, not to the text.
    const cleaned = index > 0 ? text.replace(/^\n/, "") : text;
    if (cleaned !== "") parts.push({ type: "text", text: cleaned });
  });
  return parts;
}

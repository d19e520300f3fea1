/*
 * What the pictures show. The two lists share no name and no drawing: the tiny base model learns the first, the demo
 * fine-tunes on the second, so that the base cannot know the answers before.
 * The names are those of the drawings in all four sets, `-` read as a space.
 */

/** What the base model learns to name and find: animals, plants, vehicles, weather, tools, clothes, games. No food. */
export const baseConcepts: readonly string[] = `
honeybee butterfly cactus cat chicken cow crab deer dog duck fish flamingo fox frog giraffe horse koala lion monkey
panda parrot penguin pig rabbit rooster rose snake spider sunflower tulip turtle unicorn whale zebra palm-tree
potted-plant maple-leaf airplane ambulance anchor bicycle castle cloud droplet helicopter house mountain parachute
rainbow rocket sailboat snowflake snowman star sun tent umbrella volcano fire-engine crescent-moon alarm-clock balloon
basketball kite trophy teddy-bear soccer-ball christmas-tree backpack bell bomb calendar camera crown drum envelope
glasses guitar headphone key magnet microphone pencil scissors sunglasses telephone trumpet violin light-bulb gem-stone
top-hat money-bag fire-extinguisher
`
  .trim()
  .split(/\s+/);

/** What the demo fine-tunes on: food, which the base model has never seen. */
export const domainConcepts: readonly string[] = `
banana grapes strawberry pineapple watermelon cherries lemon tomato eggplant carrot broccoli ear-of-corn hamburger pizza
doughnut ice-cream
`
  .trim()
  .split(/\s+/);

/** The name that people read: `red-apple` → `red apple`. */
export function nameOf(concept: string): string {
  return concept.replaceAll("-", " ");
}

// Trains a tiny model on the built-in text, scores a sentence with it and lets it go on.
// Build against an installed Fairway: see examples/CMakeLists.txt.

#include <fairway/fairway.h>

#include <iostream>
#include <string>

int main(int argc, char** argv) {
  try {
    const std::string folder = argc > 1 ? argv[1] : "fairway-example";
    fairway::TrainOptions options;
    options.scale = "tiny";
    options.resume = true;  // a second call finds the finished run
    options.on_step = [](const fairway::TrainStep& s) {
      if (s.step == s.total) std::cout << "step " << s.step << ": " << s.loss << " nats per token\n";
    };
    fairway::train("demo", folder, options);

    const auto model = fairway::Model::open(folder + "/model.fairway");
    const auto score = model.score("The Mole had been working very hard all the morning.");
    std::cout << model.parameters() << " parameters, " << score.bits_per_byte << " bits per byte ("
              << score.verdict << ")\n";
    std::cout << "The Mole had been" << model.generate("The Mole had been", {.tokens = 40}) << "\n";
    return 0;
  } catch (const fairway::Error& e) {
    std::cerr << e.what() << '\n';
    return e.code();
  }
}

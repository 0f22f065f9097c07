"""Who gains from tutoring? Grades of 2,000 simulated pupils, tutored by lot."""

import deepreg

data = deepreg.datasets.tutoring()
model = deepreg.structural(
    "final_grade ~ tutoring | struggling + prior_grade + C(grade_level)", data=data, family="linear"
)
result = model.fit(rng=0)
print(result.summary())

# The effect on each pupil, predicted by functions that did not see the pupil, against the one the data were made with.
effect = result.cate().iloc[:, 0]
print()
print(data.assign(effect=effect).groupby(["struggling", "grade_level"])[["effect", "true_cate"]].mean().round(1))
print(f"correlation of predicted and true effects: {effect.corr(data.true_cate):.2f}")
